// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"math/big"
	"sync"
	"testing"
	"time"

	"tacit/identity"
	"tacit/policy"
	"tacit/policy/ledger/statement"
)

const td = "example.test"

// mesh is the keys of a small mesh and a ledger that holds its founding
// records: root, operators op and op2, authority auth, members n1 and n2.
type mesh struct {
	*testing.T
	root, op, op2, auth, n1, n2 *identity.Key
	n3, n4, n5                  *identity.Key // of the simulation

	l      *Ledger
	made   []Record  // all records signed
	proven *sync.Map // signatures that were verified; nil: each is verified every time
}

func newKey(t testing.TB) *identity.Key {
	t.Helper()
	k, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newMesh(t *testing.T) *mesh {
	m := &mesh{T: t, root: newKey(t), op: newKey(t), op2: newKey(t), auth: newKey(t), n1: newKey(t), n2: newKey(t)}
	m.l = m.empty()
	m.sign(m.root, KindRoot, td, statement.Root{Certificate: caCert(t, m.root)})
	m.operator(m.root, m.op)
	m.operator(m.root, m.op2)
	m.sign(m.root, KindAuthority, "n1", statement.Authority{Node: "n1", Certificate: caCert(t, m.auth)})
	m.member(m.auth, "n1", m.n1)
	m.member(m.auth, "n2", m.n2)
	return m
}

// caCert returns a self-signed CA certificate of a key.
func caCert(t testing.TB, k *identity.Key) []byte {
	t.Helper()
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true,
		NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, k.Signer().Public(), k.Signer())
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func (m *mesh) empty() *Ledger {
	l := New(td, m.root.ID())
	if m.proven == nil {
		return l
	}
	check := l.check
	l.check = func(e *entry) error {
		if _, known := m.proven.Load(string(e.Signature)); known {
			return nil
		}
		m.proven.Store(string(e.Signature), true)
		return check(e)
	}
	return l
}

// remember has the mesh's next ledgers verify each signature once: tests that merge the
// same records thousands of times are slow otherwise.
func (m *mesh) remember() { m.proven = &sync.Map{} }

// copyOf returns a ledger with the records of l.
func (m *mesh) copyOf(l *Ledger) *Ledger {
	m.Helper()
	c := m.empty()
	if _, rejected := c.Merge(l.Records()); len(rejected) > 0 {
		m.Fatalf("%s %s: %v", rejected[0].Record.Kind, rejected[0].Record.Key, rejected[0].Err)
	}
	return c
}

func (m *mesh) signOn(l *Ledger, k *identity.Key, kind Kind, key string, body any, del bool) Record {
	m.Helper()
	r, err := l.Sign(k, kind, key, body, del)
	if err != nil {
		m.Fatalf("sign %s %s: %v", kind, key, err)
	}
	m.made = append(m.made, r)
	return r
}

func (m *mesh) sign(k *identity.Key, kind Kind, key string, body any) Record {
	m.Helper()
	return m.signOn(m.l, k, kind, key, body, false)
}

func (m *mesh) operator(by, k *identity.Key) Record {
	m.Helper()
	return m.sign(by, KindOperator, k.ID().String(), statement.Operator{Node: "n1", Public: k.Public()})
}

func (m *mesh) member(by *identity.Key, node identity.Name, k *identity.Key) Record {
	m.Helper()
	return m.sign(by, KindMember, string(node), statement.Member{Node: node, Public: k.Public()})
}

func (m *mesh) revoke(by, k *identity.Key) Record {
	m.Helper()
	return m.sign(by, KindRevocation, k.ID().String(), statement.Revocation{Public: k.ID()})
}

func (m *mesh) grant(node, service identity.Name) Record {
	m.Helper()
	return m.sign(m.op, KindGrant, string(node+"/"+service), statement.Grant{Node: node, Service: service})
}

func (m *mesh) instance(k *identity.Key, node, service identity.Name, id string) Record {
	m.Helper()
	return m.sign(k, KindInstance, string(node)+"/"+id, statement.Instance{Node: node, Service: service, ID: id, Port: 80})
}

func (m *mesh) intend(l *Ledger, k *identity.Key, a policy.Action, src, dst identity.Name) Record {
	m.Helper()
	return m.signOn(l, k, KindIntention, string(src+">"+dst), policy.Intention{Source: src, Destination: dst, Action: a}, false)
}

func (m *mesh) unintend(l *Ledger, k *identity.Key, src, dst identity.Name) Record {
	m.Helper()
	return m.signOn(l, k, KindIntention, string(src+">"+dst), nil, true)
}

// craft signs any record, without the checks of Sign.
func (m *mesh) craft(k *identity.Key, r Record, body any) Record {
	m.Helper()
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			m.Fatal(err)
		}
		r.Body = text
	}
	r.Signer, r.Dot.Signer = k.Public(), k.ID()
	if r.Dot.Seq == 0 {
		r.Dot.Seq = m.l.Last()[k.ID()] + 1
	}
	return m.seal(k, r)
}

func (m *mesh) seal(k *identity.Key, r Record) Record {
	m.Helper()
	sig, err := k.Sign(signContext, r.message(td))
	if err != nil {
		m.Fatal(err)
	}
	r.Signature = sig
	return r
}

// refuses checks that the ledger rejects a record with this error, and doesn't
// change.
func (m *mesh) refuses(l *Ledger, r Record, want error) {
	m.Helper()
	before, last := l.Digest(), l.Last()[r.Dot.Signer]
	changed, rejected := l.Merge([]Record{r})
	if len(changed) != 0 || len(rejected) != 1 || !errors.Is(rejected[0].Err, want) {
		m.Errorf("%s %s: changed %d, rejected %v, want %v", r.Kind, r.Key, len(changed), rejected, want)
	}
	if l.Digest() != before {
		m.Errorf("%s %s: the digest changed", r.Kind, r.Key)
	}
	if got := l.Last()[r.Dot.Signer]; got != last {
		m.Errorf("%s %s: the last number became %d, was %d", r.Kind, r.Key, got, last)
	}
}

func (m *mesh) takes(l *Ledger, recs ...Record) {
	m.Helper()
	if _, rejected := l.Merge(recs); len(rejected) > 0 {
		m.Fatalf("%s %s: %v", rejected[0].Record.Kind, rejected[0].Record.Key, rejected[0].Err)
	}
}

func (m *mesh) same(a, b *Ledger) {
	m.Helper()
	if a.Digest() != b.Digest() {
		m.Errorf("the digests differ:\n%s\n%s", dump(a), dump(b))
	}
}

func dump(l *Ledger) string {
	var out string
	for k := range ranks {
		for _, key := range l.Keys(k) {
			for _, r := range l.Heads(k, key) {
				out += string(k) + " " + key + " " + r.Dot.Signer.Short() + " delete=" + map[bool]string{true: "y", false: "n"}[r.Delete] + "\n"
			}
		}
	}
	return out
}

// action returns the action of the intention for a pair, or 0.
func action(l *Ledger, src, dst identity.Name) policy.Action {
	for _, i := range l.Intentions() {
		if i.Source == src && i.Destination == dst {
			return i.Action
		}
	}
	return 0
}
