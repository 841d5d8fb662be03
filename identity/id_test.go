// SPDX-License-Identifier: Apache-2.0

package identity_test

import (
	"strings"
	"testing"

	"tacit/identity"
)

func TestParseName(t *testing.T) {
	for in, want := range map[string]identity.Name{
		"db": "db", "DB": "db", "a": "a", "0": "0", "web-1": "web-1", strings.Repeat("x", 63): identity.Name(strings.Repeat("x", 63)),
		"": "", "-a": "", "a-": "", "a.b": "", "a_b": "", "a b": "", "*": "", "a/b": "", "a\x00": "", "ä": "", "\u212aube": "", "a\n": "",
		strings.Repeat("x", 64): "", strings.Repeat("x", 64<<10): "",
	} {
		got, err := identity.ParseName(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%.20q: %q, %v; want %q", in, got, err, want)
		}
		if err != nil && len(err.Error()) > 600 {
			t.Errorf("%.20q: an error of %d bytes", in, len(err.Error()))
		}
	}
}

// Every byte in the middle of a name: only letters, digits and the hyphen pass.
func TestParseNameEveryByte(t *testing.T) {
	for c := 0; c < 256; c++ {
		_, err := identity.ParseName("a" + string([]byte{byte(c)}) + "b")
		allowed := strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-", rune(c)) && c < 128
		if (err == nil) != allowed {
			t.Errorf("byte %#x: %v", c, err)
		}
	}
}

func TestParseSource(t *testing.T) {
	for in, want := range map[string]identity.Name{
		"web": "web", "WEB": "web", "ingress": "ingress", "ingress/public": "ingress/public", "Ingress/PUBLIC": "ingress/public",
		"ingress/": "", "ingress//a": "", "ingress/a/b": "", "ingress/ingress/a": "", "ingress/*": "", "*": "", "egress/a": "", "/a": "", " ingress/a": "", "": "",
	} {
		got, err := identity.ParseSource(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
		if err == nil && (got.IsIngress() != strings.Contains(in, "/") || got.IsIngress() && identity.Ingress(got.Label()) != got) {
			t.Errorf("%q: an ingress: %v, labelled %q", in, got.IsIngress(), got.Label())
		}
	}
	if got := identity.ServiceID("mesh.test", "ingress/public").String(); got != "spiffe://mesh.test/ingress/public" {
		t.Errorf("the ID of an ingress is %s", got)
	}
}

func TestMustNamePanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic for a bad name")
		}
	}()
	identity.MustName("a.b")
}

// badIDs are refused wherever an ID comes in: here, by the verifier, in tokens.
var badIDs = map[string]string{
	"nothing":           "",
	"no path":           "spiffe://mesh.test",
	"empty path":        "spiffe://mesh.test/",
	"no name":           "spiffe://mesh.test/svc",
	"empty name":        "spiffe://mesh.test/svc/",
	"trailing slash":    "spiffe://mesh.test/svc/db/",
	"more path":         "spiffe://mesh.test/svc/db/x",
	"double slash":      "spiffe://mesh.test/svc//db",
	"other kind":        "spiffe://mesh.test/ns/db",
	"escaped dot":       "spiffe://mesh.test/svc/d%2eb",
	"escaped letter":    "spiffe://mesh.test/svc/%64b",
	"dots":              "spiffe://mesh.test/svc/../node/a",
	"upper name":        "spiffe://mesh.test/svc/DB",
	"upper kind":        "spiffe://mesh.test/SVC/db",
	"upper domain":      "spiffe://MESH.test/svc/db",
	"upper scheme":      "SPIFFE://mesh.test/svc/db",
	"other scheme":      "https://mesh.test/svc/db",
	"query":             "spiffe://mesh.test/svc/db?a=b",
	"empty query":       "spiffe://mesh.test/svc/db?",
	"fragment":          "spiffe://mesh.test/svc/db#a",
	"empty fragment":    "spiffe://mesh.test/svc/db#",
	"port":              "spiffe://mesh.test:1/svc/db",
	"user":              "spiffe://root@mesh.test/svc/db",
	"star":              "spiffe://mesh.test/svc/*",
	"an ingress's name": "spiffe://mesh.test/svc/ingress/public",
	"a node so called":  "spiffe://mesh.test/node/ingress/public",
	"no ingress":        "spiffe://mesh.test/ingress/",
	"ingress twice":     "spiffe://mesh.test/ingress/ingress/public",
	"64 KiB":            "spiffe://mesh.test/svc/" + strings.Repeat("a", 64<<10),
}

func TestParseID(t *testing.T) {
	for name, in := range badIDs {
		id, err := identity.ParseID(in)
		if err == nil || !id.IsZero() || len(err.Error()) > 600 {
			t.Errorf("%s: %v, %v", name, id, err)
		}
	}
	for _, want := range []identity.ID{identity.NodeID("mesh.test", "a-1"), identity.ServiceID("m_1", "db"), identity.ServiceID("m_1", "ingress/public")} {
		got, err := identity.ParseID(want.String())
		if err != nil || got != want {
			t.Errorf("%s: %v, %v", want, got, err)
		}
	}
	node := identity.NodeID("mesh.test", "a")
	if !node.IsNode() || node.IsService() || node.Name() != "a" || node.TrustDomain() != "mesh.test" || node == identity.ServiceID("mesh.test", "a") {
		t.Errorf("%+v", node)
	}
	if zero := (identity.ID{}); zero.String() != "" || zero.IsNode() || zero.IsService() || !zero.IsZero() {
		t.Error("the zero ID is somebody")
	}
}

func TestParseTrustDomain(t *testing.T) {
	for in, ok := range map[string]bool{
		"mesh.test": true, "m": true, "a_b-1.x": true, strings.Repeat("a", 255): true,
		"": false, "MESH": false, "spiffe://mesh.test": false, "spiffe://mesh.test/svc/db": false, "a/b": false, "a:1": false,
		".a": false, "a.": false, "a..b": false, "10.0.0.1": false, strings.Repeat("a", 256): false,
	} {
		if got, err := identity.ParseTrustDomain(in); (err == nil) != ok || ok && got != in {
			t.Errorf("%.40q: %q, %v", in, got, err)
		}
	}
}

func FuzzParseID(f *testing.F) {
	for _, s := range badIDs {
		f.Add(s)
	}
	f.Add("spiffe://mesh.test/node/a")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := identity.ParseID(s)
		if err == nil && id.String() != s {
			t.Fatalf("%q was read as %q", s, id)
		}
		if err == nil && id.IsNode() == id.IsService() {
			t.Fatalf("%q is both or neither", s)
		}
	})
}
