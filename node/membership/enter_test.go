// SPDX-License-Identifier: Apache-2.0

package membership_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tacit/identity"
	"tacit/node/config"
	"tacit/node/membership"
	"tacit/node/records"
	"tacit/node/store"
	"tacit/policy/ledger"
	"tacit/policy/ledger/statement"
)

func TestBootstrap(t *testing.T) {
	n := bootstrap(t, "n1")
	view := n.records.View()
	if n.SVID.ID != identity.NodeID(domain, "n1") || n.Authority == nil || n.Operator.Key() == nil {
		t.Errorf("the member lacks something: %+v", n.Member)
	}
	if m, ok := view.Member("n1"); !ok || !bytes.Equal(m.Public, n.Key.Public()) {
		t.Error("the records don't make n1 a member")
	}
	if !view.IsOperator(n.Operator.Key().ID()) || len(view.Authorities()) != 1 {
		t.Error("the records lack the operator or the authority")
	}
	for _, path := range membership.Files(n.settings) {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
}

// TestResume: a restart finds the same keys, certificate and records, whatever
// the flags say about entering.
func TestResume(t *testing.T) {
	n := bootstrap(t, "n1")
	digest := n.records.View().Digest()
	must(t, n.store.Close())
	again := enter(t, n.settings)
	if again.Key.ID() != n.Key.ID() || again.Operator.Key().ID() != n.Operator.Key().ID() || again.Bundle.Fingerprint() != n.Bundle.Fingerprint() {
		t.Error("another key or root")
	}
	if !again.SVID.Chain[0].Equal(n.SVID.Chain[0]) {
		t.Error("another certificate")
	}
	if again.records.View().Digest() != digest {
		t.Error("other records")
	}
}

// cutOff is a store that is cut off when a setting or the records are written.
type cutOff struct {
	*store.Store
	at string
}

var errCut = errors.New("cut off")

func (c cutOff) Set(name string, value []byte) error {
	if name == c.at {
		return errCut
	}
	return c.Store.Set(name, value)
}

func (c cutOff) SaveRecords(recs []ledger.Record, last map[identity.KeyID]uint64, dropped []string) error {
	if c.at == "records" {
		return errCut
	}
	return c.Store.SaveRecords(recs, last, dropped)
}

// TestBootstrapCutOff: wherever a bootstrap was cut off, the next one makes a
// whole member.
func TestBootstrapCutOff(t *testing.T) {
	for _, at := range []string{"records", "node", "trust-domain", "root", "bootstrap-begun"} {
		t.Run(at, func(t *testing.T) {
			s := settings(t, "n1")
			s.Bootstrap = true
			st := openStore(t, s)
			if _, _, err := membership.Enter(t.Context(), s, cutOff{st, at}); !errors.Is(err, errCut) {
				t.Fatalf("the first ended with %v", err)
			}
			must(t, st.Close())
			n := enter(t, s)
			must(t, n.store.Close())
			n = enter(t, s) // what the first attempt left doesn't disturb a restart
			if _, err := n.Bundle.Verify(n.SVID.Chain, n.SVID.Chain[0].NotBefore); err != nil {
				t.Error(err)
			}
			if m, ok := n.records.View().Member("n1"); !ok || !bytes.Equal(m.Public, n.Key.Public()) {
				t.Error("the records don't make n1 a member")
			}
		})
	}
}

// TestEnterRefuses: what Enter returns, and CheckState too where the files
// alone can tell.
func TestEnterRefuses(t *testing.T) {
	for _, c := range []struct {
		name     string
		settings func(*testing.T) *config.Settled
		check    bool // CheckState says it too
		want     string
	}{
		{"no way in", func(t *testing.T) *config.Settled { return settings(t, "n1") }, true,
			"start it with --bootstrap, or with --join"},
		{"another name", func(t *testing.T) *config.Settled { return stopped(t, func(s *config.Settled) { s.Name = "n2" }) }, true,
			"--node n2: the state in "},
		{"state.db is lost", func(t *testing.T) *config.Settled {
			return stopped(t, func(s *config.Settled) {
				must(t, errors.Join(os.Remove(s.State("state.db")), os.RemoveAll(s.State("copies"))))
			})
		}, false, "authority belongs to a mesh, but state.db beside it is empty"},
		{"the authority of another mesh", func(t *testing.T) *config.Settled {
			return stopped(t, func(s *config.Settled) {
				must(t, os.RemoveAll(s.State("authority")))
				must(t, os.Rename(stopped(t, nil).State("authority"), s.State("authority")))
			})
		}, false, "authority belongs to another mesh than node.crt beside it"},
		{"the certificate of another key", func(t *testing.T) *config.Settled {
			return stopped(t, func(s *config.Settled) {
				must(t, errors.Join(os.Rename(s.State("operator.key"), s.State("node.key")), os.Remove(s.State("copies/node.key"))))
			})
		}, true, "its public key is not that of the key beside it"},
		{"join without a token", func(t *testing.T) *config.Settled {
			s := settings(t, "n2")
			s.Join = []string{"127.0.0.1"}
			return s
		}, true, "tacit token create --node n2"},
		{"no such token file", func(t *testing.T) *config.Settled {
			s := joining(t, "n2", "")
			s.TokenFile += ".x"
			return s
		}, true, "--token-file: open "},
		{"a torn token", func(t *testing.T) *config.Settled { return joining(t, "n2", "tacit2.e30") }, true, "the token can't be read"},
		{"a token for another node", func(t *testing.T) *config.Settled { return joining(t, "n3", anyToken(t, "n2")) }, true,
			"the token is for node n2 and this is n3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := c.settings(t)
			if err := membership.CheckState(s); c.check != (err != nil && strings.Contains(err.Error(), c.want)) {
				t.Errorf("CheckState: %v", err)
			}
			if _, _, err := membership.Enter(t.Context(), s, openStore(t, s)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Enter: %v, want %s", err, c.want)
			}
		})
	}
}

// stopped are the settings of a member whose daemon has stopped, edited.
func stopped(t *testing.T, edit func(*config.Settled)) *config.Settled {
	t.Helper()
	n := bootstrap(t, "n1")
	must(t, n.store.Close())
	if edit != nil {
		edit(n.settings)
	}
	return n.settings
}

func anyToken(t *testing.T, name identity.Name) string {
	t.Helper()
	n := bootstrap(t, "n1")
	n.at(t, nowhere)
	return n.token(t, membership.TokenRequest{Node: name})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestCheckState(t *testing.T) {
	fresh := settings(t, "n1")
	fresh.Bootstrap = true
	for name, s := range map[string]*config.Settled{
		"a member":          stopped(t, nil),
		"before bootstrap":  fresh,
		"before it joins":   joining(t, "n2", anyToken(t, "n2")),
		"a running daemon":  bootstrap(t, "n1").settings,
		"member, told join": stopped(t, func(s *config.Settled) { s.Bootstrap, s.Join = false, []string{"127.0.0.1"} }),
	} {
		if err := membership.CheckState(s); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFiles(t *testing.T) {
	fresh := settings(t, "n1")
	fresh.Bootstrap = true
	for _, c := range []struct {
		name string
		s    *config.Settled
		want string
	}{
		{"before it joins", settings(t, "n1"), "state.db node.key node.crt copies"},
		{"before bootstrap", fresh, "state.db node.key node.crt copies authority operator.key"},
		{"an authority", stopped(t, nil), "state.db node.key node.crt copies authority operator.key"},
	} {
		var got []string
		for _, path := range membership.Files(c.s) {
			if filepath.Dir(path) != c.s.StateDir {
				t.Errorf("%s: %s is not in the state directory", c.name, path)
			}
			got = append(got, filepath.Base(path))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// TestReserved: a number that left in a token isn't given to another record
// after a restart, though no record with it was ever merged here.
func TestReserved(t *testing.T) {
	n := bootstrap(t, "n1")
	n.at(t, nowhere)
	text := n.token(t, membership.TokenRequest{Node: "n2", Services: []identity.Name{"db", "web"}})
	used := grantNumbers(t, text)
	must(t, n.store.Close())
	again := enter(t, n.settings)
	rec, err := again.records.Prepare(again.Operator.Key(), records.Change{Kind: ledger.KindGrant, Key: "n3/db", Body: statement.Grant{Node: "n3", Service: "db"}},
		func(ledger.Dot) error { return nil })
	must(t, err)
	if last := used[len(used)-1]; len(used) != 2 || rec.Dot.Seq <= last {
		t.Errorf("the token carries %d, and a record after the restart got %d", used, rec.Dot.Seq)
	}
}
