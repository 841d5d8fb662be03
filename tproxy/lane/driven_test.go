// SPDX-License-Identifier: Apache-2.0

package lane

import (
	"errors"
	"io"
	"maps"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tacit/identity"
	"tacit/internal/testhost"
	"tacit/policy"
	"tacit/tproxy/lane/credit"
	"tacit/tproxy/lane/frame"
	"tacit/tproxy/lane/message"
	"tacit/tproxy/lane/trust"
	"tacit/tproxy/loop"
	"tacit/tproxy/record"
)

// script is what a dialer sends: proofs in the middle of records with frames behind them,
// a change of the key, streams that end, are reset, and go on.
func (c *certs) script() []byte {
	from := func(source identity.Name, stream uint32, unproven bool) []byte {
		return bytesOf(frame.Open, stream, message.Opening{Source: source, Destination: "db", Port: 1, Unproven: unproven}.Encode())
	}
	data := func(stream uint32, text string) []byte { return bytesOf(frame.Data, stream, []byte(text)) }
	fin := func(stream uint32) []byte { return bytesOf(frame.Fin, stream, nil) }
	half := strings.Repeat("0123456789abcdef", credit.First/4/16-32) // so that a part of First is granted again
	return join(
		sealed(typeData, bytesOf(frame.Ping, 0, nil), c.proof(identity.RoleClient, "web"), from("web", 1, true), data(1, "hello")),
		sealed(typeData, data(1, " world"), from("web", 2, true), data(2, "two"), fin(2)),
		sealed(typeUpdate, []byte{24, 0, 0, 1, 1}),
		sealed(typeData, from("cache", 3, true), data(3, "refused")), // never proven
		sealed(typeData, c.proof(identity.RoleClient, "shop"), from("shop", 4, false), data(4, "four"), fin(4), from("web", 5, false)),
		sealed(typeData, data(1, half)), sealed(typeData, data(1, half)), sealed(typeData, data(1, half)),
		sealed(typeData, bytesOf(frame.Reset, 5, []byte("reset")), data(5, "skipped"), bytesOf(frame.Credit, 1, frame.Granting(1<<20)), fin(1)),
		sealed(typeData, bytesOf(frame.Ping, 0, nil)),
	)
}

func join(parts ...[]byte) (all []byte) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

// outcome is what a lane has done with a script: what it has written, and what the users
// of its streams were given, by the order of the streams.
type outcome struct {
	Said  said
	Got   []string
	Calls []string
	Live  int
}

func (d *driven) outcome() outcome {
	o := outcome{Said: d.said(), Live: d.opening()}
	for _, u := range d.users {
		o.Got, o.Calls = append(o.Got, string(u.got)), append(o.Calls, u.calls)
	}
	return o
}

// byText compares what users got whose streams weren't reset.
func byText(o, p outcome) bool {
	set := func(o outcome) map[string]string {
		m := map[string]string{}
		for i, got := range o.Got {
			if !strings.Contains(o.Calls[i], "l") {
				m[got] = o.Calls[i]
			}
		}
		return m
	}
	return reflect.DeepEqual(set(o), set(p))
}

// near are the places at which a script is divided: around the beginning of each record,
// and some others; all of them in a long run.
func near(t *testing.T, script []byte) (at []int) {
	starts := map[int]bool{}
	for k := 0; k < len(script); {
		for d := -8; d <= 16; d++ {
			starts[k+d] = true
		}
		n, err := record.Length(script[k:])
		testhost.Must(t, err)
		k += n
	}
	return some(t, len(script), 997, func(k int) bool { return starts[k] || len(script)-k < 20 })
}

func some(t *testing.T, n, step int, more func(int) bool) (at []int) {
	all := os.Getenv("TACIT_SOAK") != ""
	for k := 0; k <= n; k++ {
		if all || k%step == 0 || more(k) {
			at = append(at, k)
		}
	}
	t.Logf("%d of %d positions", len(at), n)
	return at
}

// TestReadsInPieces: the same frames are handled, and the same is answered, wherever
// what comes is divided, and whether the rest comes while a proof is being verified.
func TestReadsInPieces(t *testing.T) {
	c := newCerts(t)
	script := c.script()
	want := func() outcome {
		d := c.drive(t, false)
		d.come(script)
		d.settle()
		return d.outcome()
	}()
	if want.Said.data[1] == "" || want.Said.others[3] != " RESET" || want.Said.others[2] != " ANSWER FIN" || want.Said.data[4] != "four" ||
		want.Said.others[1] != " ANSWER FIN" || want.Said.pongs != 1 || len(want.Said.others[0]) != len(" PROVE(key)") {
		t.Fatalf("in one piece: %+v", want.Said.others)
	}
	for _, k := range near(t, script) {
		for _, during := range []bool{false, true} {
			d := c.drive(t, false)
			d.come(script[:k])
			if !during {
				d.settle()
			}
			d.come(script[k:])
			d.settle()
			if got := d.outcome(); !got.likes(want) {
				t.Fatalf("divided at %d, during a proof %v:\n%+v\nwant\n%+v", k, during, got.brief(), want.brief())
			}
		}
	}
	d := c.drive(t, false)
	for k := range script {
		d.come(script[k : k+1])
		d.settle()
	}
	if got := d.outcome(); !got.likes(want) {
		t.Errorf("byte by byte:\n%+v\nwant\n%+v", got.brief(), want.brief())
	}
}

// likes compares outcomes, but for what depends on the time: the order of frames that
// aren't of one stream, how much credit was granted before a FIN, and whether a stream
// that was reset had been taken.
func (o outcome) likes(p outcome) bool {
	for _, s := range []*said{&o.Said, &p.Said} {
		s.others, s.credit = maps.Clone(s.others), nil
		if s.others[0] == "(key) PROVE" {
			s.others[0] = " PROVE(key)"
		}
		delete(s.others, 5)
	}
	return reflect.DeepEqual(o.Said, p.Said) && byText(o, p)
}

func (o outcome) brief() any {
	return []any{o.Said.others, o.Said.credit, o.Calls, len(o.Said.data[1])}
}

// TestWritesInPieces: what is written is the same, however little the connection takes at
// each write.
func TestWritesInPieces(t *testing.T) {
	c := newCerts(t)
	script := c.script()
	run := func(prepare func(*fakeConn)) outcome {
		d := c.drive(t, false)
		prepare(d.conn)
		d.come(script)
		d.settle()
		for n := 0; d.out.Pending() > 0 || d.blocked; n++ {
			if n > 1<<20 {
				t.Fatal("it never ends")
			}
			d.conn.full = false
			d.ready(loop.Writable)
			d.settle()
		}
		return d.outcome()
	}
	whole := run(func(*fakeConn) {})
	total := 0
	for _, text := range whole.Said.data {
		total += len(text)
	}
	for _, k := range some(t, total+2000, 499, func(k int) bool { return k < 40 }) {
		if got := run(func(conn *fakeConn) { conn.takes = []int{k, 0} }); !got.likes(whole) {
			t.Fatalf("the first write takes %d:\n%+v\nwant\n%+v", k, got.brief(), whole.brief())
		}
	}
	for _, n := range []int{1, 13, 999, 17_000} {
		if got := run(func(conn *fakeConn) { conn.takeOnly = n }); !got.likes(whole) {
			t.Errorf("each write takes %d:\n%+v\nwant\n%+v", n, got.brief(), whole.brief())
		}
	}
	for at := range 6 { // EAGAIN at each write
		takes := append(repeat(1<<30, at), 0)
		if got := run(func(conn *fakeConn) { conn.takes = takes }); !got.likes(whole) {
			t.Errorf("write %d would have waited:\n%+v\nwant\n%+v", at, got.brief(), whole.brief())
		}
	}
}

func repeat(n, times int) (all []int) {
	for range times {
		all = append(all, n)
	}
	return all
}

// TestEndsAnywhere: wherever a lane ends, by FIN, by a reset or by a failing write, each
// stream ends once, the connection is closed once, and nothing is left.
func TestEndsAnywhere(t *testing.T) {
	c := newCerts(t)
	script := c.script()
	for _, k := range near(t, script) {
		for i, end := range []error{io.EOF, unix.ECONNRESET} {
			d := c.drive(t, false)
			d.come(script[:k])
			if k%2 == i { // or while a proof is being verified
				d.settle()
			}
			d.conn.end = end
			d.ready(loop.Readable | loop.PeerClosed)
			d.settle()
			d.isOver(t, k, end)
		}
	}
	for at := 1; at < 8; at++ {
		d := c.drive(t, false)
		d.conn.failAt = at
		d.come(script)
		d.settle()
		if d.conn.writes >= at {
			d.isOver(t, at, unix.EPIPE)
		}
	}
}

// isOver checks that nothing of a lane is left.
func (d *driven) isOver(t *testing.T, k int, cause error) {
	t.Helper()
	d.set.work.Wait()
	switch {
	case !d.ending || d.conn.closed != 1 || d.conn.tooLate:
		t.Fatalf("%d, %v: ended %v, closed %d times, used afterwards %v", k, cause, d.ending, d.conn.closed, d.conn.tooLate)
	case len(d.streams) != 0 || d.live != 0 || len(d.set.all()) != 0:
		t.Fatalf("%d, %v: %d streams, %d live, lanes %v", k, cause, len(d.streams), d.live, d.set.all())
	case d.opening() != 0 || liveOf(d) != 0 || d.guest.Held.Bytes() != 0 || d.set.cfg.Budget.Left() != 1<<20:
		t.Fatalf("%d, %v: opening %d, live %d, held %d, budget %d", k, cause, d.opening(), liveOf(d), d.guest.Held.Bytes(), d.set.cfg.Budget.Left())
	}
	for _, u := range d.users {
		if calls := u.calls; strings.Count(calls, "o") > 1 || strings.Count(calls, "e") > 1 || strings.Count(calls, "l") > 1 ||
			strings.Contains(calls, "l") && !strings.HasSuffix(calls, "l") {
			t.Fatalf("%d, %v: a user was told %q", k, cause, calls)
		}
	}
	select {
	case <-d.ended:
	default:
		t.Fatalf("%d, %v: whoever waits for the end isn't told", k, cause)
	}
}

func liveOf(d *driven) int {
	n, _ := d.guest.Streams()
	return n
}

func (w *watched) Lost(*policy.Refusal) { w.calls += "l" }

// TestRetireWritesAll: a lane that was told to retire ends after its last stream, once
// all was written, close_notify behind it: it isn't cut off where output waits.
func TestRetireWritesAll(t *testing.T) {
	c := newCerts(t)
	for _, takes := range []int{0, 1, 1000} {
		d := c.drive(t, true)
		u := &watched{}
		errs := make(chan error, 1)
		text := strings.Repeat("x", 40_000)
		go func() {
			_, err := d.open(t.Context(), message.Opening{Source: "web", Destination: "db", Port: 1}, u)
			errs <- err
		}()
		testhost.Must(t, reserved(d))
		<-d.loop.rouse
		d.settle()
		d.come(join(sealed(typeData, c.proof(identity.RoleServer, "db"), bytesOf(frame.Answer, 1, nil), bytesOf(frame.Retire, 0, nil))))
		d.settle()
		testhost.Must(t, <-errs)
		if d.ending || d.finishing {
			t.Fatal("it ended with a stream")
		}
		d.conn.takeOnly, d.conn.full = takes, takes > 0
		u.owed = push(u.s, []byte(text))
		u.s.Fin()
		d.come(sealed(typeData, bytesOf(frame.Fin, 1, nil)))
		d.settle()
		for n := 0; !d.ending; n++ {
			if n > 1<<20 || d.conn.closed > 0 {
				t.Fatal("it never ends, or was closed too early")
			}
			d.conn.full = false
			d.ready(loop.Writable)
			d.settle()
		}
		out := d.said()
		if out.data[1] != text || !strings.HasSuffix(out.others[1], " FIN") || !out.ends || d.conn.reset {
			t.Errorf("each write takes %d: %d bytes, %q, close_notify %v, reset %v", takes, len(out.data[1]), out.others[1], out.ends, d.conn.reset)
		}
		d.isOver(t, takes, nil)
	}
}

// reserved reserves a stream as Set.take does.
func reserved(d *driven) error {
	if !d.reserve() {
		return errors.New("no stream can be opened")
	}
	return nil
}

// TestProofIsSentAnyway: a stream that can't begin any more, since its destination's proof
// has ended meanwhile, leaves its source proven: others rely on it.
func TestProofIsSentAnyway(t *testing.T) {
	c := newCerts(t)
	d := c.drive(t, true)
	d.services.Learn(identity.ServiceID(td, "db"), trust.Proven{From: time.Now(), To: time.Now().Add(time.Minute), Keys: make([]identity.KeyID, 1)})
	testhost.Must(t, reserved(d))
	u := &watched{}
	_, err := d.open(t.Context(), message.Opening{Source: "web", Destination: "db", Port: 1}, u)
	testhost.Must(t, err)
	d.services.Lapsed(time.Now().Add(time.Hour))
	d.settle()
	if out := d.said(); u.calls != "l" || out.others[0] != " PROVE" || len(out.others) != 1 || d.live != 0 {
		t.Errorf("the user was told %q, %v was sent, %d live", u.calls, out.others, d.live)
	}
}

// TestProvenAgainWhereItWasRefused: a peer that refuses a stream for want of a proof gets
// another one with the next stream.
func TestProvenAgainWhereItWasRefused(t *testing.T) {
	c := newCerts(t)
	d := c.drive(t, true)
	d.services.Learn(identity.ServiceID(td, "db"), trust.Proven{From: time.Now(), To: time.Now().Add(time.Minute), Keys: make([]identity.KeyID, 1)})
	for n := range 2 {
		testhost.Must(t, reserved(d))
		_, err := d.open(t.Context(), message.Opening{Source: "web", Destination: "db", Port: 1}, &watched{})
		testhost.Must(t, err)
		d.settle()
		d.come(sealed(typeData, bytesOf(frame.Reset, uint32(n+1), []byte(policy.ReasonProof))))
		d.settle()
	}
	if out := d.said(); out.others[0] != " PROVE PROVE" {
		t.Errorf("%q was sent", out.others[0])
	}
}
