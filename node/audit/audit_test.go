// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tacit/identity"
	"tacit/node/api"
	"tacit/node/health"
	"tacit/policy"
	"tacit/policy/ledger"
	"tacit/policy/ledger/statement"
)

// mesh is a ledger with a root and an operator on host1, and an audit log of it.
type mesh struct {
	*Log
	t              *testing.T
	ledger         *ledger.Ledger
	root, operator *identity.Key
	conf           Config
	board          *health.Board
}

func newMesh(t *testing.T) *mesh {
	t.Helper()
	m := &mesh{t: t, root: newKey(t), operator: newKey(t), board: health.NewBoard()}
	m.ledger = ledger.New("tacit.local", m.root.ID())
	m.conf = Config{Dir: t.TempDir(), View: m.ledger.View, Health: m.board, Log: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return time.Unix(1000, 0) }}
	m.reopen()
	m.sign(m.root, ledger.KindOperator, m.operator.ID().String(), statement.Operator{Node: "host1", Public: m.operator.Public()})
	return m
}

func newKey(t *testing.T) *identity.Key {
	t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (m *mesh) reopen() {
	m.t.Helper()
	if m.Log != nil {
		if err := m.Close(); err != nil {
			m.t.Fatal(err)
		}
	}
	var err error
	if m.Log, err = Open(m.conf); err != nil {
		m.t.Fatal(err)
	}
}

// sign makes a record, a delete if body is nil, and notes it.
func (m *mesh) sign(key *identity.Key, k ledger.Kind, subject string, body any) {
	m.t.Helper()
	r, err := m.ledger.Sign(key, k, subject, body, body == nil)
	if err != nil {
		m.t.Fatal(err)
	}
	m.Note([]ledger.Record{r})
}

func (m *mesh) intention(a policy.Action) {
	m.t.Helper()
	m.sign(m.operator, ledger.KindIntention, "web>db", policy.Intention{Source: "web", Destination: "db", Action: a, Description: "shop"})
}

// says compares the latest entries, one line each.
func (m *mesh) says(want ...string) {
	m.t.Helper()
	list, _ := m.Changes(m.t.Context(), 0)
	var got []string
	for _, e := range list.Changes {
		got = append(got, line1(e))
	}
	got = got[max(0, len(got)-len(want)):]
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		m.t.Errorf("the latest entries are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func line1(e api.AuditEntry) string {
	return strings.TrimSpace(e.By + ": " + e.Kind + " " + short(e.Subject) + ": " + e.Before + " -> " + e.After + " " + e.Why)
}

// TestAudit: every change has its author, and the value before and after; what
// follows from a revocation is entered, too.
func TestAudit(t *testing.T) {
	m := newMesh(t)
	m.intention(policy.Allow)
	m.intention(policy.Deny)
	m.sign(m.operator, ledger.KindGrant, "host2/db", statement.Grant{Node: "host2", Service: "db", Outside: []string{"db.example"}})
	m.sign(m.operator, ledger.KindGrant, "host2/db", nil)
	m.says(
		"operator host1: intention web>db:  -> allow (shop)",
		"operator host1: intention web>db: allow (shop) -> deny (shop)",
		"operator host1: grant host2/db:  -> granted (db.example)",
		"operator host1: grant host2/db: granted (db.example) ->",
	)
	if by, at, ok := m.Author(ledger.KindIntention, "web>db"); by != "operator host1" || !at.Equal(time.Unix(1000, 0)) || !ok {
		t.Errorf("the author is %q at %v, %v", by, at, ok)
	}
	key := m.operator.ID()
	m.sign(m.root, ledger.KindRevocation, key.String(), statement.Revocation{Public: key, Node: "host1", Reason: "stolen"})
	m.says(
		"key "+m.root.ID().Short()+": revocation "+key.Short()+":  -> revoked host1 (stolen)",
		"key "+m.root.ID().Short()+": intention web>db: deny (shop) ->  follows from revocation "+key.Short(),
	)
}

// TestAuditConflict: records that contradict each other are all named.
func TestAuditConflict(t *testing.T) {
	m := newMesh(t)
	second := newKey(t)
	m.sign(m.root, ledger.KindOperator, second.ID().String(), statement.Operator{Node: "host2", Public: second.Public()})
	elsewhere := ledger.New("tacit.local", m.root.ID())
	elsewhere.Merge(m.ledger.Records())
	m.intention(policy.Allow)
	r, err := elsewhere.Sign(second, ledger.KindIntention, "web>db", policy.Intention{Source: "web", Destination: "db", Action: policy.Deny}, false)
	if err != nil {
		t.Fatal(err)
	}
	m.ledger.Merge([]ledger.Record{r})
	m.Note([]ledger.Record{r})
	m.Note([]ledger.Record{r}) // once more: nothing has changed
	m.says("operator host1: intention web>db:  -> allow (shop)", "operator host2: intention web>db: allow (shop) -> allow (shop) and deny")
}

// TestAuditContinues: a restart goes on with the log, and enters what it missed.
func TestAuditContinues(t *testing.T) {
	m := newMesh(t)
	m.intention(policy.Allow)
	if _, err := m.ledger.Sign(m.operator, ledger.KindIntention, "web>db", policy.Intention{Source: "web", Destination: "db", Action: policy.Deny}, false); err != nil {
		t.Fatal(err)
	}
	m.reopen()
	m.says("operator host1: intention web>db:  -> allow (shop)", "operator host1: intention web>db: allow (shop) -> deny found at start")
	before, _ := m.Changes(t.Context(), 0)
	m.reopen()
	if after, _ := m.Changes(t.Context(), before.Changes[0].Seq); len(after.Changes) != len(before.Changes)-1 {
		t.Errorf("%d entries after a restart, %d before it", len(after.Changes)+1, len(before.Changes))
	}
}

// TestAuditDamaged: a line that was changed shows at the next start; one that a crash
// cut off is dropped and entered again.
func TestAuditDamaged(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func([]byte) []byte
		want   string
		aside  bool
	}{
		{"changed", func(b []byte) []byte {
			return bytes.Replace(b, []byte(`"after":"allow`), []byte(`"after":"deny!`), 1)
		}, "damaged", true},
		{"taken out", func(b []byte) []byte {
			lines := bytes.SplitAfter(b, []byte("\n"))
			return append(lines[0], lines[2]...)
		}, "damaged", true},
		{"cut off", func(b []byte) []byte { return b[:len(b)-9] }, "found at start", false},
		{"zeroes", func(b []byte) []byte { return append(b, make([]byte, 99)...) }, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMesh(t)
			m.intention(policy.Allow)
			m.intention(policy.Deny)
			path := filepath.Join(m.conf.Dir, Name)
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, c.damage(text), 0o600); err != nil {
				t.Fatal(err)
			}
			m.reopen()
			list, _ := m.Changes(t.Context(), 0)
			found := c.want == ""
			for _, e := range list.Changes {
				found = found || strings.Contains(line1(e), c.want)
			}
			aside, _ := filepath.Glob(path + ".damaged-*")
			if !found || (len(aside) == 1) != c.aside {
				t.Errorf("no %q in %v; kept aside: %v", c.want, list.Changes, aside)
			}
			m.intention(policy.Allow)
			m.reopen()
			m.says("operator host1: intention web>db: deny (shop) -> allow (shop)")
		})
	}
}

// TestAuditDiskFull: status says what can't be written, and it is written later.
func TestAuditDiskFull(t *testing.T) {
	m := newMesh(t)
	file := m.file.f
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	m.file.f = full
	m.intention(policy.Allow)
	if m.board.Get(health.Audit, "") == nil {
		t.Error("status doesn't say that the log can't be written")
	}
	m.says("operator host1: intention web>db:  -> allow (shop)")
	m.file.f = file
	m.WriteAgain()
	if err := m.board.Get(health.Audit, ""); err != nil {
		t.Errorf("written again: %v", err)
	}
	m.reopen()
	m.says("operator host1: intention web>db:  -> allow (shop)")
	if err := full.Close(); err != nil {
		t.Error(err)
	}
}

// TestAuditRotates: a long log keeps its latest parts, and the chain goes on across them.
func TestAuditRotates(t *testing.T) {
	m := newMesh(t)
	for range 2 * (keep + 1) {
		m.file.size = maxSize + 1
		m.intention(policy.Allow)
		m.intention(policy.Deny)
	}
	parts, _ := filepath.Glob(filepath.Join(m.conf.Dir, Name+"*"))
	if len(parts) != keep+1 {
		t.Errorf("the parts are %v", parts)
	}
	m.reopen() // the operator's entry was in a part that is gone
	m.says("operator host1: intention web>db: deny (shop) -> allow (shop)", "operator host1: intention web>db: allow (shop) -> deny (shop)",
		"key "+m.root.ID().Short()+": operator "+m.operator.ID().Short()+":  -> operator on host1 found at start")
}

// FuzzLog: a damaged log never stops a start, and a new entry can always be made.
func FuzzLog(f *testing.F) {
	text, _, err := seal(api.AuditEntry{Seq: 1, Kind: "intention", Subject: "web>db", After: "deny"}, "")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(append(text, text...))
	f.Add([]byte("{}\n"))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, found []byte) {
		if err := os.WriteFile(filepath.Join(dir, Name), found, 0o600); err != nil {
			t.Fatal(err)
		}
		root := identity.KeyID{1}
		l, err := Open(Config{Dir: dir, View: ledger.New("tacit.local", root).View, Health: health.NewBoard(), Log: slog.New(slog.DiscardHandler), Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
