// SPDX-License-Identifier: Apache-2.0

package identity_test

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"tacit/identity"
)

// lane connects two nodes and returns the channel as each end sees it.
func lane(t *testing.T, e *ends) (dialer, acceptor identity.Channel) {
	t.Helper()
	out := connect(t, identity.ServerTLS(e.server, nil), e.dial(identity.ALPNLane, "alpha"))
	if out.serverErr != nil || out.clientErr != nil {
		t.Fatalf("server %v, client %v", out.serverErr, out.clientErr)
	}
	dialer, err := identity.NewChannel(out.client, e.client.svid.ID, e.server.svid.ID)
	must(t, err)
	acceptor, err = identity.NewChannel(out.server, e.client.svid.ID, e.server.svid.ID)
	must(t, err)
	return dialer, acceptor
}

func TestProof(t *testing.T) {
	e := newEnds(t)
	mine, theirs := lane(t, e)
	if !bytes.Equal(mine.Exporter, theirs.Exporter) || len(mine.Exporter) != 32 {
		t.Fatal("the ends export different bytes")
	}
	for role, s := range map[identity.Role]*identity.SVID{
		identity.RoleClient: e.service("ingress/public"), identity.RoleServer: e.service("db"), identity.RoleNode: e.node("beta"),
	} {
		p, err := identity.Prove(s, role, mine)
		must(t, err)
		text, err := json.Marshal(p)
		must(t, err)
		var got identity.Proof
		must(t, json.Unmarshal(text, &got))
		id, chain, err := got.Verify(e.Bundle(), role, theirs, time.Now())
		if err != nil || id != s.ID || !chain[0].Equal(s.Chain[0]) {
			t.Errorf("role %d: %s, %v", role, id, err)
		}
	}
}

func TestProofReplay(t *testing.T) {
	e := newEnds(t)
	here, _ := lane(t, e)
	elsewhere, _ := lane(t, e)
	gamma := identity.NodeID("mesh.test", "gamma")
	web := e.service("web")
	good, err := identity.Prove(web, identity.RoleClient, here)
	must(t, err)
	with := func(change func(*identity.Proof)) identity.Proof {
		p := identity.Proof{Chain: append([][]byte(nil), good.Chain...), Signature: bytes.Clone(good.Signature)}
		change(&p)
		return p
	}
	for name, c := range map[string]struct {
		proof identity.Proof
		role  identity.Role
		ch    identity.Channel
	}{
		"another lane of the same nodes": {good, identity.RoleClient, elsewhere},
		"another role":                   {good, identity.RoleServer, here},
		"as a node":                      {good, identity.RoleNode, here},
		"no role":                        {good, 0, here},
		"another dialer":                 {good, identity.RoleClient, identity.Channel{Dialer: gamma, Acceptor: here.Acceptor, Exporter: here.Exporter}},
		"another acceptor":               {good, identity.RoleClient, identity.Channel{Dialer: here.Dialer, Acceptor: gamma, Exporter: here.Exporter}},
		"ends exchanged":                 {good, identity.RoleClient, identity.Channel{Dialer: here.Acceptor, Acceptor: here.Dialer, Exporter: here.Exporter}},
		"no channel":                     {good, identity.RoleClient, identity.Channel{}},
		"another service's chain":        {with(func(p *identity.Proof) { p.Chain = ders(e.service("db")) }), identity.RoleClient, here},
		"the service's next chain":       {with(func(p *identity.Proof) { p.Chain = ders(e.service("web")) }), identity.RoleClient, here},
		"another mesh's chain":           {with(func(p *identity.Proof) { p.Chain = ders(newMesh(t, "mesh.test").service("web")) }), identity.RoleClient, here},
		"altered signature":              {with(func(p *identity.Proof) { p.Signature[9] ^= 1 }), identity.RoleClient, here},
		"no signature":                   {with(func(p *identity.Proof) { p.Signature = nil }), identity.RoleClient, here},
		"no chain":                       {with(func(p *identity.Proof) { p.Chain = nil }), identity.RoleClient, here},
		"long chain":                     {with(func(p *identity.Proof) { p.Chain = make([][]byte, 5) }), identity.RoleClient, here},
		"long certificate":               {with(func(p *identity.Proof) { p.Chain[0] = make([]byte, 1<<20) }), identity.RoleClient, here},
		"garbage":                        {with(func(p *identity.Proof) { p.Chain[0] = []byte("x") }), identity.RoleClient, here},
	} {
		if id, _, err := c.proof.Verify(e.Bundle(), c.role, c.ch, time.Now()); !errors.Is(err, identity.ErrProof) || !id.IsZero() {
			t.Errorf("%s: %s, %v", name, id, err)
		}
	}
	if _, _, err := good.Verify(e.Bundle(), identity.RoleClient, here, web.Chain[0].NotAfter.Add(time.Second)); !errors.Is(err, identity.ErrProof) {
		t.Errorf("after its end: %v", err)
	}
}

// A node can renew its proof only on its own lanes, and a chain without its key
// proves nothing.
func TestProofOfOthers(t *testing.T) {
	e := newEnds(t)
	ch, _ := lane(t, e)
	for name, c := range map[string]struct {
		s    *identity.SVID
		role identity.Role
		ch   identity.Channel
	}{
		"a third node":              {e.node("gamma"), identity.RoleNode, ch},
		"a node as a client":        {e.node("beta"), identity.RoleClient, ch},
		"an ingress that is called": {e.service("ingress/public"), identity.RoleServer, ch},
		"a service as node":         {e.service("beta"), identity.RoleNode, ch},
		"an empty channel":          {e.service("web"), identity.RoleClient, identity.Channel{}},
		"a short export":            {e.service("web"), identity.RoleClient, identity.Channel{Dialer: ch.Dialer, Acceptor: ch.Acceptor, Exporter: ch.Exporter[:31]}},
		"services as ends":          {e.service("web"), identity.RoleClient, identity.Channel{Dialer: e.service("a").ID, Acceptor: ch.Acceptor, Exporter: ch.Exporter}},
	} {
		if _, err := identity.Prove(c.s, c.role, c.ch); err == nil {
			t.Errorf("%s: proven", name)
		}
	}
	web := e.service("web")
	stolen := &identity.SVID{ID: web.ID, Chain: web.Chain, Key: newKey(t)}
	p, err := identity.Prove(stolen, identity.RoleClient, ch)
	must(t, err)
	if _, _, err := p.Verify(e.Bundle(), identity.RoleClient, ch, time.Now()); !errors.Is(err, identity.ErrSignature) {
		t.Errorf("a stolen chain: %v", err)
	}
}

func TestNewChannelNeedsConnection(t *testing.T) {
	a, b := identity.NodeID("mesh.test", "a"), identity.NodeID("mesh.test", "b")
	if _, err := identity.NewChannel(tls.ConnectionState{}, a, b); err == nil {
		t.Error("a channel without a handshake")
	}
	e := newEnds(t)
	out := connect(t, identity.ServerTLS(e.server, nil), e.dial(identity.ALPNLane, "alpha"))
	if _, err := identity.NewChannel(out.client, a, identity.ID{}); err == nil {
		t.Error("a channel to nobody")
	}
}

func ders(s *identity.SVID) (out [][]byte) {
	for _, c := range s.Chain {
		out = append(out, c.Raw)
	}
	return out
}
