// SPDX-License-Identifier: Apache-2.0

package identity_test

import (
	"bytes"
	"crypto/tls"
	"strings"
	"testing"
	"time"

	"tacit/identity"
)

// TestAgree: both ends compute the same secret, and nobody else does.
func TestAgree(t *testing.T) {
	a, b, c := newKey(t), newKey(t), newKey(t)
	agree := func(k, with *identity.Key, context string) []byte {
		secret, err := k.Agree(with.Public(), context)
		must(t, err)
		return secret
	}
	secret := agree(a, b, "x")
	if len(secret) != 32 || !bytes.Equal(secret, agree(b, a, "x")) {
		t.Errorf("the ends have %x and %x", secret, agree(b, a, "x"))
	}
	for _, other := range [][]byte{agree(a, b, "y"), agree(a, c, "x"), agree(c, b, "x"), agree(a, a, "x")} {
		if bytes.Equal(secret, other) {
			t.Error("another pair or context has the same secret")
		}
	}
	if _, err := a.Agree([]byte("no key"), "x"); err == nil || !strings.Contains(err.Error(), "public key: ") {
		t.Errorf("no key: %v", err)
	}
}

// TestGossipHandshakes: both ends must be nodes that check accepts; an expired
// certificate is good enough for check, since it compares keys.
func TestGossipHandshakes(t *testing.T) {
	other := newMesh(t, "mesh.test")
	for name, c := range map[string]struct {
		change func(*ends)
		check  func(*ends) identity.PeerCheck
		text   string // of the server's error
	}{
		"two members":     {},
		"expired":         {change: func(e *ends) { e.client.svid = e.nodeFor("beta", -4*time.Minute, -time.Minute) }},
		"revoked":         {check: func(e *ends) identity.PeerCheck { return revoked(e.client.svid) }, text: errRevoked.Error()},
		"a service":       {change: func(e *ends) { e.client.svid = e.service("beta") }, text: "is no node"},
		"another mesh":    {change: func(e *ends) { e.client.svid = other.node("beta") }, text: "unknown authority"},
		"not yet":         {change: func(e *ends) { e.client.svid = e.nodeFor("beta", time.Minute, time.Hour) }, text: "not yet valid"},
		"another purpose": {change: func(e *ends) { e.client.bundle = nil }, text: "no application protocol"},
	} {
		e := newEnds(t)
		if c.change != nil {
			c.change(e)
		}
		var check identity.PeerCheck
		if c.check != nil {
			check = c.check(e)
		}
		client := identity.GossipClientTLS(e.client, nil)
		if c.text == "no application protocol" {
			client = e.dial(identity.ALPNLane, "alpha")
		}
		out := connect(t, identity.GossipTLS(e.server, check), client)
		if c.text == "" && (out.clientErr != nil || out.serverErr != nil || out.server.Version != tls.VersionTLS13) {
			t.Errorf("%s: client %v, server %v", name, out.clientErr, out.serverErr)
		}
		if c.text != "" && out.serverErr == nil {
			t.Errorf("%s: accepted", name)
		}
		if c.text != "" && c.text != "no application protocol" && !strings.Contains(out.serverErr.Error(), c.text) {
			t.Errorf("%s: %v, want %q", name, out.serverErr, c.text)
		}
	}
}
