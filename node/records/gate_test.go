// SPDX-License-Identifier: Apache-2.0

package records

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tacit/identity"
	"tacit/node/health"
	"tacit/policy/ledger"
	"tacit/policy/ledger/statement"
)

// restarted is host1 of a mesh with host2, after a start with this configuration.
func restarted(t *testing.T, change func(*Config, *identity.Key)) (f *fixture, operator, own *identity.Key) {
	t.Helper()
	before := newFixture(t, "host1", newKey(t))
	operator = before.makeOperator(t)
	own = before.addMember(t, "host1")
	before.addMember(t, "host2")
	conf := before.conf
	conf.Ledger = ledger.New("tacit.local", before.root.ID())
	if err := conf.Ledger.Restore(before.View().Records(), before.View().Last()); err != nil {
		t.Fatal(err)
	}
	conf.Wait = true
	conf.Own = func(id identity.KeyID) bool { return id == operator.ID() || id == own.ID() }
	change(&conf, before.root)
	r, err := New(conf)
	if err != nil {
		t.Fatal(err)
	}
	f = &fixture{Records: r, disk: before.disk, board: before.board, root: before.root}
	f.Connect(func([]byte) {})
	return f, operator, own
}

func nodeRecord(port uint16) Change {
	return Change{Kind: ledger.KindNode, Key: "host1", Body: statement.Node{Node: "host1", Address: "10.0.0.1", LanePort: port}}
}

// TestNothingBeforeAnExchange: nothing is signed before a member has told what it
// knows; a node's own state is signed without that after a while.
func TestNothingBeforeAnExchange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, operator, own := restarted(t, func(*Config, *identity.Key) {})
		full, err := json.Marshal(message{Records: f.View().Records(), Full: true})
		if err != nil {
			t.Fatal(err)
		}
		refused := func(err error) {
			t.Helper()
			if !errors.Is(err, ErrUnreached) || !strings.Contains(err.Error(), "--alone") {
				t.Errorf("got %v", err)
			}
		}
		refused(f.Sign(operator, allow("web", "db")))
		refused(f.Sign(own, nodeRecord(1)))
		_, err = f.Prepare(operator, allow("web", "db"), func(ledger.Dot) error { return nil })
		refused(err)
		f.Merge("host9", []byte(`{"revisions":{}}`)) // a broadcast is no exchange
		began := time.Now()
		refused(f.Await(t.Context()))
		if waited := time.Since(began); waited != patience {
			t.Errorf("a command waits %s", waited)
		}
		refused(f.Await(t.Context()))
		if f.OwnIn() != ownAfter-patience || f.board.Get(health.Exchange, "") != nil {
			t.Errorf("own state in %s, status says %v", f.OwnIn(), f.board.Get(health.Exchange, ""))
		}
		<-time.After(ownAfter - patience)
		synctest.Wait()
		select {
		case <-f.Own():
		default:
			t.Error("nobody is told that own state may be signed")
		}
		if err := f.Sign(own, nodeRecord(1)); err != nil {
			t.Error(err)
		}
		refused(f.Sign(operator, allow("web", "db")))
		refused(f.board.Get(health.Exchange, ""))

		f.Merge("host9", full)
		if err := errors.Join(f.Sign(operator, allow("web", "db")), f.Await(t.Context()), f.board.Get(health.Exchange, "")); err != nil {
			t.Error(err)
		}
	})
}

// TestNobodyToWaitFor: with --alone, and as the only member, everything is signed at
// once, also after others have joined.
func TestNobodyToWaitFor(t *testing.T) {
	f, operator, _ := restarted(t, func(c *Config, _ *identity.Key) { c.Wait = false })
	if err := errors.Join(f.Await(t.Context()), f.Sign(operator, allow("web", "db"))); err != nil {
		t.Errorf("alone: %v", err)
	}
	f, _, _ = restarted(t, func(c *Config, root *identity.Key) { c.Ledger = ledger.New("tacit.local", root.ID()) })
	f.addMember(t, "host2")
	if err := f.Await(t.Context()); err != nil {
		t.Errorf("the only member: %v", err)
	}
}

// TestOwnRecordsReturn: what a rolled-back disk lacks comes back from others. The log
// and status say so, and the node looks at its own record again.
func TestOwnRecordsReturn(t *testing.T) {
	var log strings.Builder
	f, operator, own := restarted(t, func(c *Config, _ *identity.Key) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	other := ledger.New("tacit.local", f.root.ID())
	other.Merge(f.View().Records())
	other.Begin(ledger.Epoch(time.Now().Add(time.Hour), 0, 0))
	for n := range 3 {
		body := nodeRecord(uint16(n + 1)).Body
		if _, err := other.Sign(own, ledger.KindNode, "host1", body, false); err != nil {
			t.Fatal(err)
		}
		if _, err := other.Sign(operator, ledger.KindIntention, "web>db", allow("web", "db").Body, n == 2); err != nil {
			t.Fatal(err)
		}
		f.Take(other.Records())
	}
	select {
	case <-f.Own():
	default:
		t.Error("the node doesn't look at its own record")
	}
	if n := strings.Count(log.String(), "rolled back"); n != 1 {
		t.Errorf("the log says it %d times: %s", n, log.String())
	}
	if found := f.board.Repairs(time.Time{}); len(found) != 1 || !strings.Contains(found[0].Found, "rolled back") {
		t.Errorf("status says %v", found)
	}
	f.reached()
	if err := f.Sign(own, nodeRecord(9)); err != nil {
		t.Fatal(err)
	}
	if got, _ := f.View().Node("host1"); got.LanePort != 9 {
		t.Errorf("the record signed again is not in force: %+v", got)
	}
}

// TestQuotaIsNamed: a node with too many records is named in status, until some are
// gone; another one's are taken.
func TestQuotaIsNamed(t *testing.T) {
	f := newFixture(t, "host1", newKey(t))
	keys := map[identity.Name]*identity.Key{"host2": f.addMember(t, "host2"), "host3": f.addMember(t, "host3")}
	var tags []string
	for range 60 {
		tags = append(tags, strings.Repeat("x", 250))
	}
	filled := func(node identity.Name, prefix string, count int) *ledger.Ledger {
		l := ledger.New("tacit.local", f.root.ID())
		l.Merge(f.View().Records())
		for n := range count {
			id := fmt.Sprint(prefix, n)
			if _, err := l.Sign(keys[node], ledger.KindInstance, string(node)+"/"+id, statement.Instance{Node: node, Service: "db", ID: id, Tags: tags}, false); err != nil {
				t.Fatal(err)
			}
		}
		return l
	}
	over := filled("host2", "a", 100)
	f.Take(append(over.Records(), filled("host3", "a", 1).Records()...))
	if f.board.Get(health.Quota, "host2") != nil || len(f.View().Published("host3")) != 1 {
		t.Error("named too early")
	}
	var more []ledger.Record
	for n := range 20 {
		more = append(more, signed(t, f, keys["host2"], fmt.Sprint("b", n), tags))
	}
	f.Take(more)
	if err := f.board.Get(health.Quota, "host2"); err == nil || !strings.Contains(err.Error(), "host2") || f.board.Get(health.Quota, "host3") != nil {
		t.Errorf("status says %v of host2 and %v of host3", err, f.board.Get(health.Quota, "host3"))
	}
	over.Begin(ledger.Epoch(time.Now().Add(time.Hour), 0, 0))
	for n := range 10 {
		if _, err := over.Sign(keys["host2"], ledger.KindInstance, fmt.Sprint("host2/a", n), nil, true); err != nil {
			t.Fatal(err)
		}
	}
	f.Take(over.Records())
	if err := f.board.Get(health.Quota, "host2"); err != nil {
		t.Errorf("after some are gone, status says %v", err)
	}
}

// signed returns an instance of host2 signed by a ledger that knows no other one.
func signed(t *testing.T, f *fixture, key *identity.Key, id string, tags []string) ledger.Record {
	t.Helper()
	l := ledger.New("tacit.local", f.root.ID())
	for _, r := range f.View().Records() {
		if r.Kind != ledger.KindInstance {
			l.Merge([]ledger.Record{r})
		}
	}
	l.Begin(ledger.Epoch(time.Now(), 0, 0))
	r, err := l.Sign(key, ledger.KindInstance, "host2/"+id, statement.Instance{Node: "host2", Service: "db", ID: id, Tags: tags}, false)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestWhatIsReplacedGoes: 2,000 updates, their own and others', leave two records on disk.
func TestWhatIsReplacedGoes(t *testing.T) {
	f := newFixture(t, "host1", newKey(t))
	operator, key := f.makeOperator(t), f.addMember(t, "host2")
	before := len(f.disk.kept)
	other := ledger.New("tacit.local", f.root.ID())
	other.Merge(f.View().Records())
	for n := range 1000 {
		c := allow("web", "db")
		if c.Delete = n%2 == 0; f.Sign(operator, c) != nil {
			t.Fatal("not signed")
		}
		rec, err := other.Sign(key, ledger.KindNode, "host2", statement.Node{Node: "host2", Address: "10.0.0.2", LanePort: uint16(n + 1)}, false)
		if err != nil {
			t.Fatal(err)
		}
		if n == 500 {
			f.disk.full = true
		}
		f.Take([]ledger.Record{rec})
		f.disk.full = false
	}
	if got := len(f.disk.kept) - before; got != 2 {
		t.Errorf("%d records on disk, want 2", got)
	}
}

// TestWithdrawnInstancesGo: a node that runs and withdraws instances all the time
// doesn't run out of room.
func TestWithdrawnInstancesGo(t *testing.T) {
	f := newFixture(t, "host1", newKey(t))
	key := f.addMember(t, "host1")
	before := len(f.disk.kept)
	for n := range 1100 {
		c := Change{Kind: ledger.KindInstance, Key: fmt.Sprint("host1/", n), Body: statement.Instance{Node: "host1", Service: "db", ID: fmt.Sprint(n)}}
		for _, c.Delete = range []bool{false, true} {
			if err := f.Sign(key, c); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := len(f.disk.kept) - before; got > 600 || f.View().Full("host1") {
		t.Errorf("%d records on disk, full is %v", got, f.View().Full("host1"))
	}
}
