// SPDX-License-Identifier: Apache-2.0

package membership_test

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tacit/identity"
	"tacit/node/config"
	"tacit/node/membership"
)

// hurts are what happens to a file.
var hurts = map[string]func(t *testing.T, path string){
	"emptied": func(t *testing.T, path string) { must(t, os.Truncate(path, 0)) },
	"lost":    func(t *testing.T, path string) { must(t, os.Remove(path)) },
	"cut":     func(t *testing.T, path string) { must(t, os.Truncate(path, 100)) },
	"zeros":   func(t *testing.T, path string) { must(t, os.WriteFile(path, make([]byte, 500), 0o600)) },
	"flipped": func(t *testing.T, path string) {
		b, err := os.ReadFile(path)
		must(t, err)
		b[len(b)/3] ^= 2 // in a key, of its secret
		must(t, os.WriteFile(path, b, 0o600))
	},
}

// hurt are the settings of a stopped node whose files were damaged.
func hurt(t *testing.T, how string, n node, files ...string) *config.Settled {
	t.Helper()
	must(t, n.store.Close())
	for _, name := range files {
		hurts[how](t, n.settings.State(name))
	}
	return n.settings
}

// TestLostCertificate: a node whose certificate is lost or damaged starts, says so,
// and has a new one: from its own authority at once, else from another by its key.
func TestLostCertificate(t *testing.T) {
	n1 := bootstrap(t, "n1")
	n1.serve(t, n1.issuer)
	for how := range hurts {
		t.Run(how, func(t *testing.T) {
			alone := enter(t, hurt(t, how, bootstrap(t, "n1"), "node.crt"))
			if id, err := alone.Bundle.Verify(alone.SVID.Chain, time.Now()); err != nil || id != identity.NodeID(domain, "n1") {
				t.Errorf("on an authority: %s, %v", id, err)
			}
			name := identity.Name("m-" + how)
			n := enter(t, hurt(t, how, enter(t, joining(t, name, n1.token(t, membership.TokenRequest{Node: name}))), "node.crt"))
			if !strings.Contains(strings.Join(n.Said, " "), "node.crt is ") {
				t.Errorf("said: %q", n.Said)
			}
			c := membership.NewCertificates(membership.CertificatesConfig{Member: n.Member, Settings: n.settings, Roll: n.records.View(),
				Check: membership.CheckPeer(n.records.View()), Health: n.board, Log: n.settings.Log})
			if c.Check() == nil {
				t.Error("its own word counts as a certificate")
			}
			run(t, c)
			eventually(t, c.Check)
			eventually(t, func() error {
				kept, err := identity.LoadSVID(n.settings.State("node.crt"), n.Key)
				if err == nil {
					_, err = n1.Bundle.Verify(kept.Chain, time.Now())
				}
				return err
			})
		})
	}
}

// TestLostNodeKey: its copy is used, and put back; another key is not taken for it.
func TestLostNodeKey(t *testing.T) {
	for how := range hurts {
		n := bootstrap(t, "n1")
		again := enter(t, hurt(t, how, n, "node.key"))
		if again.Key.ID() != n.Key.ID() || len(again.Said) == 0 {
			t.Errorf("%s: %s, %q", how, again.Key, again.Said)
		}
		if key, err := identity.LoadKey(n.settings.State("node.key")); err != nil || key.ID() != n.Key.ID() {
			t.Errorf("%s: it isn't put back: %v", how, err)
		}
	}
	s := hurt(t, "emptied", bootstrap(t, "n1"), "state.db", "copies/state", "copies/mesh")
	if _, _, err := membership.Enter(t.Context(), s, openStore(t, s)); err == nil || !strings.Contains(err.Error(), "state.db was damaged") {
		t.Errorf("all of the state lost: %v", err)
	}
	s = hurt(t, "emptied", bootstrap(t, "n1"), "node.key", "copies/node.key")
	if _, _, err := membership.Enter(t.Context(), s, openStore(t, s)); err == nil || !strings.Contains(err.Error(), "tacit node revoke n1") {
		t.Errorf("both lost: %v", err)
	}
}

// TestMissingKeysAreSaid: a node goes on without a key that belongs to it, and says
// who, what, why and what to do. One that was never here is no news.
func TestMissingKeysAreSaid(t *testing.T) {
	for file, says := range map[string]string{
		"operator.key":               "this node can't change policy",
		"authority/root.key":         "this node can't sign for the root",
		"authority/intermediate.key": "this node can't issue certificates",
		"authority/intermediate.crt": "this node can't issue certificates",
		"authority/root.crt":         "this node can't issue certificates",
	} {
		for how := range hurts {
			if how == "flipped" && strings.HasSuffix(file, ".crt") {
				continue // a certificate whose signature is flipped may still be read
			}
			if how == "zeros" || how == "cut" {
				continue // as emptied
			}
			n := enter(t, hurt(t, how, bootstrap(t, "n1"), file))
			said := fmt.Sprint(slices.Collect(maps.Values(n.Missing)))
			if len(n.Missing) != 1 || !strings.Contains(said, says) || !strings.Contains(said, filepath.Dir(n.settings.State(file))) {
				t.Errorf("%s %s: %s", file, how, said)
			}
		}
	}
	n1 := bootstrap(t, "n1")
	n1.serve(t, n1.issuer)
	n2 := enter(t, joining(t, "n2", n1.token(t, membership.TokenRequest{Node: "n2"})))
	must(t, n2.store.Close())
	if n := enter(t, n2.settings); len(n.Missing)+len(n.Said) > 0 {
		t.Errorf("a member without such keys: %v %v", n.Missing, n.Said)
	}
}

// TestLostState: with nothing left of state.db and its copy, the node is the same
// member, knows no rule, and says that it is behind.
func TestLostState(t *testing.T) {
	n1 := bootstrap(t, "n1")
	n1.serve(t, n1.issuer)
	n2 := enter(t, joining(t, "n2", n1.token(t, membership.TokenRequest{Node: "n2", Services: []identity.Name{"db"}})))
	must(t, n2.store.Close())
	n2 = enter(t, n2.settings)
	for how := range hurts {
		s := hurt(t, how, n2, "state.db", "copies/state")
		n2 = enter(t, s)
		if how == "flipped" && !n2.Behind {
			continue // one of them was readable
		}
		if !n2.Behind || len(n2.Said) == 0 || len(n2.records.View().Members()) != 2 || n2.Bundle.Fingerprint() != n1.Bundle.Fingerprint() {
			t.Errorf("%s: %+v", how, n2.Mended)
		}
		n2.records.Merge("n1", n1.records.State())
		select {
		case <-n2.records.Exchanged():
		default:
			t.Errorf("%s: not caught up after an exchange", how)
		}
		if n2.records.View().Digest() != n1.records.View().Digest() {
			t.Errorf("%s: other records than the peer's", how)
		}
		must(t, n2.Remember(n2.settings, n2.store, n2.records.View()))
	}
}

// TestDamagedMember: whatever is damaged, the start has no panic: it refuses, or it is
// the same node with records that were signed, or it knows that it is behind.
func TestDamagedMember(t *testing.T) {
	n1 := bootstrap(t, "n1")
	n1.serve(t, n1.issuer)
	n1.admit(t, "n3")
	n1.grant(t, "n3", "db")
	n2 := enter(t, joining(t, "n2", n1.token(t, membership.TokenRequest{Node: "n2"})))
	n2.records.Merge("n1", n1.records.State())
	want := n2.records.View().Digest()
	must(t, errors.Join(n2.Remember(n2.settings, n2.store, n2.records.View()), n2.store.Close()))
	cases, seed := 40, uint64(time.Now().UnixNano())
	if os.Getenv("TACIT_SOAK") != "" {
		cases = 1000
	}
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for range cases {
		s := *n2.settings
		s.StateDir = t.TempDir()
		must(t, os.CopyFS(s.StateDir, os.DirFS(n2.settings.StateDir)))
		var files []string
		must(t, filepath.WalkDir(s.StateDir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				files = append(files, path)
			}
			return err
		}))
		var hit []string
		for range 1 + r.IntN(3) {
			path, how := files[r.IntN(len(files))], slices.Sorted(maps.Keys(hurts))[r.IntN(len(hurts))]
			if st, err := os.Stat(path); err != nil || st.Size() < 200 {
				continue
			}
			hit = append(hit, how+" "+path)
			hurts[how](t, path)
		}
		m, l, err := membership.Enter(t.Context(), &s, openStore(t, &s))
		if err != nil {
			continue // it says what to do: TestEnterRefuses, TestLostNodeKey
		}
		if m.Key.ID() != n2.Key.ID() || !m.Behind && l.Digest() != want {
			t.Errorf("%v: %s, behind %t; said %q", hit, m.Key, m.Behind, m.Said)
		}
	}
}
