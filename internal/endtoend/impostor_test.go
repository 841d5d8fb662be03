// SPDX-License-Identifier: Apache-2.0

package endtoend

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	"tacit/identity"
	"tacit/internal/testhost"
)

// patched is a peer with a node's credentials and a mind of its own: it speaks the
// lane protocol as it likes. The authority's key is only used for what no authority
// would sign.
type patched struct {
	t        *testing.T
	from, to *testhost.Host
	ca       *identity.Authority
	node     credentials
	key      *identity.Key // of all its services' certificates
}

// spoken is one lane of it.
type spoken struct {
	*tls.Conn
	channel identity.Channel
	stream  uint32
}

func (p *patched) lane(as credentials) (*spoken, error) {
	conn, err := as.handshake(p.from, p.to, identity.ALPNLane)
	if err != nil {
		return nil, err
	}
	ch, err := identity.NewChannel(conn.ConnectionState(), p.node.svid.ID, identity.NodeID(p.ca.TrustDomain(), identity.Name(p.to.Name)))
	testhost.Must(p.t, err)
	return &spoken{Conn: conn, channel: ch}, nil
}

// Kinds of frames: see tproxy/lane/frame.go.
const (
	frameOpen  = 1
	frameData  = 2
	frameReset = 4
	frameProve = 5
)

func frame(kind byte, stream uint32, payload []byte) []byte {
	out := []byte{kind, 0, byte(len(payload) >> 8), byte(len(payload))}
	return append(binary.BigEndian.AppendUint32(out, stream), payload...)
}

// opening asks for a stream from source to db.
func opening(stream uint32, source string) []byte {
	payload := append([]byte{0, byte(len(source))}, source...)
	payload = append(payload, "\x02db\x02db\x1b\x58\x00\x00\x00"...) // to db, its instance db, port 7000, for an unknown client
	return frame(frameOpen, stream, payload)
}

// open asks for a stream from source to db, with bytes for it.
func (s *spoken) open(source string) []byte {
	s.stream++
	return append(opening(s.stream, source), frame(frameData, s.stream, []byte("stolen"))...)
}

// prove is a proof of db by a chain, made for a role and a channel, and sent in a
// role.
func (p *patched) prove(chain []*x509.Certificate, made identity.Role, ch identity.Channel, sent identity.Role, id identity.ID) []byte {
	proof, err := identity.Prove(&identity.SVID{ID: id, Chain: chain, Key: p.key}, made, ch)
	testhost.Must(p.t, err)
	out := []byte{byte(sent), byte(len(proof.Chain))}
	for _, part := range append(proof.Chain, proof.Signature) {
		out = append(binary.BigEndian.AppendUint16(out, uint16(len(part))), part...)
	}
	return frame(frameProve, 0, out)
}

// try sends frames, and says what came of them: the reason of a reset, "cut", or
// "accepted" where the program answered.
func (s *spoken) try(frames ...[]byte) string {
	if _, err := s.Write(bytes.Join(frames, nil)); err != nil {
		return "cut"
	}
	for {
		var h [8]byte
		if _, err := io.ReadFull(s, h[:]); err != nil {
			return "cut"
		}
		payload := make([]byte, binary.BigEndian.Uint16(h[2:]))
		if _, err := io.ReadFull(s, payload); err != nil {
			return "cut"
		}
		switch {
		case binary.BigEndian.Uint32(h[4:]) != s.stream:
		case h[0] == frameReset:
			return string(payload)
		case h[0] == frameData:
			return "accepted"
		}
	}
}

// forge is a certificate of the service db for the peer's key, changed and signed
// by the authority, or a node's for the node's key.
func (p *patched) forge(spki *identity.Key, id identity.ID, change func(*x509.Certificate)) []*x509.Certificate {
	csr, err := identity.NewCSR(spki)
	testhost.Must(p.t, err)
	issue := p.ca.IssueService
	if id.IsNode() {
		issue = p.ca.IssueNode
	}
	chain, err := issue(csr, id.Name())
	testhost.Must(p.t, err)
	if change == nil {
		return chain
	}
	like := *chain[0]
	like.ExtraExtensions = nil
	change(&like)
	der, err := x509.CreateCertificate(rand.Reader, &like, p.ca.Intermediate(), spki.Signer().Public(), p.ca.Key().Signer())
	testhost.Must(p.t, err)
	leaf, err := x509.ParseCertificate(der)
	testhost.Must(p.t, err)
	return []*x509.Certificate{leaf, p.ca.Intermediate()}
}

// named gives a certificate the URIs spiffe:REST.
func named(rest ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.URIs = nil
		for _, r := range rest {
			c.URIs = append(c.URIs, &url.URL{Scheme: "spiffe", Opaque: r})
		}
	}
}

func expired(c *x509.Certificate) {
	c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
}

func isCA(c *x509.Certificate) {
	c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign|x509.KeyUsageDigitalSignature
}

// foreign is a mesh of somebody else, in a trust domain.
func (p *patched) foreign(td string) *identity.Authority {
	a, err := identity.CreateAuthority(td, "host1", filepath.Join(p.t.TempDir(), td), time.Hour)
	testhost.Must(p.t, err)
	return a
}

// attempt is one way to be taken for db, and where the receiver counts it.
type attempt struct {
	name, counted string
	does          func(*spoken) string // on a lane; nil: as is a handshake
	as            credentials
}

// streams are attempts to open a stream, which the receiver refuses one by one.
func (p *patched) streams() (out []attempt) {
	td := p.ca.TrustDomain()
	db, client := identity.ServiceID(td, "db"), identity.RoleClient
	add := func(name, counted string, proof func(*spoken) []byte) {
		out = append(out, attempt{name: name, counted: "in " + counted, does: func(s *spoken) string { return s.try(proof(s), s.open("db")) }})
	}
	whole := p.forge(p.key, db, nil)
	add("a withdrawn grant", "grant", func(s *spoken) []byte { return p.prove(whole, client, s.channel, client, db) })
	add("no proof", "proof", func(*spoken) []byte { return nil })
	add("web's proof", "proof", func(s *spoken) []byte {
		web := identity.ServiceID(td, "web")
		return p.prove(p.forge(p.key, web, nil), client, s.channel, client, web)
	})
	other, err := p.lane(p.node)
	testhost.Must(p.t, err)
	p.t.Cleanup(func() { _ = other.Close() })
	add("replayed from another lane", "proof", func(*spoken) []byte { return p.prove(whole, client, other.channel, client, db) })
	for name, ends := range map[string][2]identity.Name{"made for another node": {"host1", "host2"}, "made to another node": {"host3", "host1"}, "made the other way": {"host2", "host3"}} {
		add(name, "proof", func(s *spoken) []byte {
			return p.prove(whole, client, identity.Channel{Dialer: identity.NodeID(td, ends[0]), Acceptor: identity.NodeID(td, ends[1]), Exporter: s.channel.Exporter}, client, db)
		})
	}
	add("made for another role", "proof", func(s *spoken) []byte { return p.prove(whole, identity.RoleServer, s.channel, client, db) })
	for name, change := range map[string]func(*x509.Certificate){
		"DB": named("//" + td + "/svc/DB"), "Db": named("//" + td + "/svc/Db"), "SVC": named("//" + td + "/SVC/db"),
		"encoded": named("//" + td + "/svc/d%62"), "a slash at the end": named("//" + td + "/svc/db/"), "two slashes": named("//" + td + "//svc/db"),
		"a dot at the end": named("//" + td + "/svc/db."), "a query": named("//" + td + "/svc/db?x"), "a port": named("//" + td + ":1/svc/db"),
		"two URIs": named("//"+td+"/svc/web", "//"+td+"/svc/db"), "another trust domain": named("//evil.test/svc/db"),
		"a CA": isCA, "expired": expired,
	} {
		chain := p.forge(p.key, db, change)
		add("a certificate: "+name, "proof", func(s *spoken) []byte { return p.prove(chain, client, s.channel, client, db) })
	}
	for _, name := range []string{td, "evil.test"} {
		csr, err := identity.NewCSR(p.key)
		testhost.Must(p.t, err)
		chain, err := p.foreign(name).IssueService(csr, "db")
		testhost.Must(p.t, err)
		id := identity.ServiceID(name, "db")
		add("another mesh, called "+name, "proof", func(s *spoken) []byte { return p.prove(chain, client, s.channel, client, id) })
	}
	return out
}

// breaches are attempts that cost the lane.
func (p *patched) breaches() (out []attempt) {
	td := p.ca.TrustDomain()
	add := func(name, counted string, does func(*spoken) string) {
		out = append(out, attempt{name: name, counted: "cut " + counted, does: does})
	}
	chain, db := p.forge(p.key, identity.ServiceID(td, "db"), nil), identity.ServiceID(td, "db")
	for _, source := range []string{"DB", "Db", "d%62", "db/", "db.", "/svc/db", "db\x00", "", "*"} {
		add(fmt.Sprintf("opened as %q", source), "protocol", func(s *spoken) string { return s.try(s.open(source)) })
	}
	add("a proof in the receiver's role", "protocol", func(s *spoken) string {
		return s.try(p.prove(chain, identity.RoleServer, s.channel, identity.RoleServer, db), s.open("db"))
	})
	add("a stream that nobody opened", "protocol", func(s *spoken) string { s.stream = 7; return s.try(frame(frameData, 7, []byte("stolen"))) })
	add("the receiver's node", "proof", func(s *spoken) string {
		id := identity.NodeID(td, identity.Name(p.to.Name))
		return s.try(p.prove(p.forge(p.key, id, nil), identity.RoleNode, s.channel, identity.RoleNode, id), s.open("db"))
	})
	return out
}

// handshakes are attempts to be another node, or none.
func (p *patched) handshakes() (out []attempt) {
	td := p.ca.TrustDomain()
	key, me := p.node.svid.Key, p.node.svid.ID
	add := func(name, counted string, chain []*x509.Certificate) {
		out = append(out, attempt{name: "node: " + name, counted: "refused " + counted,
			as: credentials{&identity.SVID{ID: me, Chain: chain, Key: key}, p.node.bundle}})
	}
	add("expired", "expired", p.forge(key, me, expired))
	add("db's certificate", "member", p.forge(key, identity.ServiceID(td, "db"), nil))
	add("host1", "member", p.forge(key, identity.NodeID(td, "host1"), nil))
	for name, change := range map[string]func(*x509.Certificate){
		"re-cased": named("//" + td + "/node/HOST3"), "encoded": named("//" + td + "/node/host%33"), "a slash": named("//" + td + "/node/host3/"),
		"two URIs": named("//"+td+"/node/host3", "//"+td+"/node/host1"), "another trust domain": named("//evil.test/node/host3"), "a CA": isCA,
	} {
		add(name, "member", p.forge(key, me, change))
	}
	csr, err := identity.NewCSR(key)
	testhost.Must(p.t, err)
	chain, err := p.foreign(td).IssueNode(csr, me.Name())
	testhost.Must(p.t, err)
	add("another mesh", "member", chain)
	return out
}

// perLane is how many attempts are made on one lane, each with a proof: a lane takes 64.
const perLane = 50

// run makes n attempts of one kind, and says what came of them.
func (p *patched) run(a attempt, n int) map[string]int {
	came := map[string]int{}
	if a.as.svid == nil {
		a.as = p.node
	}
	for left := n; left > 0; {
		s, err := p.lane(a.as)
		if err != nil {
			came["cut"]++
			left--
			continue
		}
		does, round := a.does, min(left, perLane)
		if does == nil { // the refusal comes after the client's last message
			does = func(s *spoken) string { return s.try(s.open("db")) }
		}
		for ; round > 0; round-- {
			what := does(s)
			came[what]++
			left--
			if what == "cut" {
				break
			}
		}
		_ = s.Close()
	}
	return came
}

// counts are all that the receiver has counted of connections from other nodes.
func counts(t *testing.T, h *testhost.Host) map[string]uint64 {
	t.Helper()
	out := map[string]uint64{}
	for _, s := range jsonOf[flowReport](t, h.Tacit(t, "flows", "--json")).Totals {
		if s.Direction == "in" {
			out["in "+s.Reason] = s.Count
		}
	}
	port := lanePortOf(t, h)
	for reason, n := range port.Cut {
		out["cut "+reason] = n
	}
	for reason, n := range port.Refused {
		out["refused "+reason] = n
	}
	return out
}

// TestImpostors: 10,000 attempts by a patched member with web's credentials to speak as db are
// refused, no byte reaches db, and the receiver has counted each by its reason. The
// same member speaks as db while it has the grant, so the attempts are real ones.
func TestImpostors(t *testing.T) {
	m := testhost.NewMesh(t, testhost.MeshOptions{Nodes: 3, Grants: []string{"db", "web"}})
	host1, host2, host3 := m.Nodes[0], m.Nodes[1], m.Nodes[2]
	host2.Tacit(t, "service", "register", "db", "--port", "7000")
	program := host2.StartAs(t, "db", host2.Bin("probe"), "listen", "0.0.0.0:7000")
	host2.AwaitListener(t, 7000)
	host1.Tacit(t, "intention", "allow", "db", "db", "--wait")
	ca, err := identity.LoadAuthority(filepath.Join(host1.State, "authority"), time.Hour)
	testhost.Must(t, err)
	key, err := identity.NewKey()
	testhost.Must(t, err)
	p := &patched{t: t, from: host3, to: host2, ca: ca, node: credentialsOf(t, host3, host1), key: key}

	streams := p.streams()
	testhost.Eventually(t, 10*time.Second, "db is reached with the grant", func() error {
		if came := p.run(streams[0], 1); came["accepted"] != 1 {
			return fmt.Errorf("%v", came)
		}
		return nil
	})
	host1.Tacit(t, "node", "grant", "host3", "--service", "db", "--withdraw")
	testhost.Eventually(t, 10*time.Second, "the grant is withdrawn", func() error {
		if came := p.run(streams[0], 1); came["grant"] != 1 {
			return fmt.Errorf("%v", came)
		}
		return nil
	})

	const each, few = 410, 26 // 10,002 attempts, of which 572 cost a handshake each
	before, reached := counts(t, host2), program.Output()
	want, made := maps.Clone(before), 0
	begin := time.Now()
	for kind, list := range map[int][]attempt{each: streams, few: append(p.breaches(), p.handshakes()...)} {
		for _, a := range list {
			came := p.run(a, kind)
			made += kind
			want[a.counted] += uint64(kind)
			if came["accepted"] > 0 || came["cut"]+came["proof"]+came["grant"] != kind {
				t.Errorf("%s: %v of %d", a.name, came, kind)
			}
		}
	}
	took := time.Since(begin)
	testhost.Eventually(t, 10*time.Second, "each is counted", func() error {
		if now := counts(t, host2); !maps.Equal(now, want) {
			return fmt.Errorf("%v, want %v; before %v", now, want, before)
		}
		return nil
	})
	t.Logf("%d attempts in %s: %v", made, took, counts(t, host2))
	if now := program.Output(); now != reached {
		t.Errorf("db was reached:\n%s", now)
	}
}
