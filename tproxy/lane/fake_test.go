// SPDX-License-Identifier: Apache-2.0

package lane

import (
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"math"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tacit/identity"
	"tacit/internal/testhost"
	"tacit/tproxy/lane/credit"
	"tacit/tproxy/lane/frame"
	"tacit/tproxy/lane/message"
	"tacit/tproxy/loop"
	"tacit/tproxy/record"
	"tacit/tproxy/socket"
)

// fakeLoop is an event loop whose turns a test takes one by one.
type fakeLoop struct {
	mu     sync.Mutex
	posted []func()
	rouse  chan struct{}
	queue  []loop.Runner
	flush  []loop.Flusher
}

func (f *fakeLoop) Do(g func()) bool {
	f.mu.Lock()
	f.posted = append(f.posted, g)
	f.mu.Unlock()
	select {
	case f.rouse <- struct{}{}:
	default:
	}
	return true
}

func (f *fakeLoop) Queue(r loop.Runner)           { f.queue = append(f.queue, r) }
func (f *fakeLoop) AtEnd(g loop.Flusher)          { f.flush = append(f.flush, g) }
func (f *fakeLoop) Watch(int, loop.Handler) error { return nil }
func (f *fakeLoop) Forget(int, bool)              {}

// turn does all that is to be done now; false: nothing was.
func (f *fakeLoop) turn() bool {
	f.mu.Lock()
	posted := f.posted
	f.posted = nil
	f.mu.Unlock()
	for _, g := range posted {
		g()
	}
	queue := f.queue
	f.queue = nil
	for _, r := range queue {
		r.Run()
	}
	flush := f.flush
	f.flush = nil
	for _, g := range flush {
		g.Flush()
	}
	return len(posted)+len(queue)+len(flush) > 0
}

// fakeConn is a connection that gives and takes as much as a test says.
type fakeConn struct {
	in       []byte
	end      error // after in: nil, EAGAIN; io.EOF, FIN
	out      []byte
	takes    []int // how much each write takes, 0: EAGAIN; then writes take everything
	failAt   int   // the write, counted from 1, that fails
	writes   int
	closed   int
	reset    bool
	tooLate  bool // used after it was closed
	takeOnly int  // each write takes at most that much and the next EAGAIN; 0: no limit
	full     bool
}

func (c *fakeConn) FD() int { return 7 }

func (c *fakeConn) Readv(into [][]byte) (int, error) {
	c.tooLate = c.tooLate || c.closed > 0
	if len(c.in) > 0 {
		n := copy(into[0], c.in)
		c.in = c.in[n:]
		return n, nil
	}
	switch {
	case c.end == nil:
		return 0, unix.EAGAIN
	case errors.Is(c.end, io.EOF):
		return 0, nil
	}
	return 0, c.end
}

func (c *fakeConn) Writev(from [][]byte) (int, error) {
	c.tooLate = c.tooLate || c.closed > 0
	c.writes++
	if c.writes == c.failAt {
		return 0, unix.EPIPE
	}
	n := len(from[0])
	switch {
	case len(c.takes) > 0:
		n, c.takes = min(n, c.takes[0]), c.takes[1:]
	case c.full:
		n = 0
	case c.takeOnly > 0:
		n, c.full = min(n, c.takeOnly), true
	}
	if n == 0 {
		return 0, unix.EAGAIN
	}
	c.out = append(c.out, from[0][:n]...)
	return n, nil
}

func (c *fakeConn) CloseWrite() error     { return nil }
func (c *fakeConn) Close()                { c.closed++ }
func (c *fakeConn) Reset()                { c.closed, c.reset = c.closed+1, true }
func (c *fakeConn) Err() error            { return nil }
func (c *fakeConn) Connected() bool       { return true }
func (c *fakeConn) Local() netip.AddrPort { return netip.AddrPort{} }
func (c *fakeConn) Unacked() int          { return 0 }
func (c *fakeConn) Path() socket.Path     { return socket.Path{} }

// clearRecords are TLS records without a cipher: the last byte before 16 bytes of tag is
// the type.
type clearRecords struct {
	owed  bool // a change of key
	ended bool
}

const typeData, typeUpdate, typeEnd = 23, 22, 21

func (c *clearRecords) Seal(b []byte, n int) (int, error) {
	if c.owed || c.ended {
		return 0, errors.New("sealed after the end, or under an old key")
	}
	return seal(b, n, typeData), nil
}

func (c *clearRecords) NeedUpdate() bool { return c.owed }

func (c *clearRecords) Update(b []byte) (int, error) {
	c.owed = false
	return seal(b, 5, typeUpdate), nil
}

func (c *clearRecords) End(b []byte, _ error) (int, error) {
	c.ended = true
	return seal(b, 2, typeEnd), nil
}

func (c *clearRecords) Open(b []byte) ([]byte, error) {
	typ, plain := opened(b)
	switch typ {
	case typeEnd:
		return nil, io.EOF
	case typeUpdate:
		c.owed = true
		return nil, nil
	}
	return plain, nil
}

func seal(b []byte, n int, typ byte) int {
	b[0], b[1], b[2] = typeData, 3, 3
	binary.BigEndian.PutUint16(b[3:], uint16(n+record.TailSize))
	b[record.HeaderSize+n] = typ
	return record.HeaderSize + n + record.TailSize
}

func opened(b []byte) (typ byte, plain []byte) {
	end := len(b) - record.TailSize
	return b[end], b[record.HeaderSize:end]
}

// sealed is a record.
func sealed(typ byte, plain ...[]byte) []byte {
	b := make([]byte, record.HeaderSize)
	for _, p := range plain {
		b = append(b, p...)
	}
	n := len(b) - record.HeaderSize
	b = append(b, make([]byte, record.TailSize)...)
	return b[:seal(b, n, typ)]
}

// driven is a lane on a fake loop and a fake connection.
type driven struct {
	*lane
	t     *testing.T
	set   *Set
	loop  *fakeLoop
	conn  *fakeConn
	users []*watched // of arrived streams, in the order in which they were taken
	mu    sync.Mutex
}

// certs are the certificates of two nodes, whose proofs are made once: they are the same
// on each lane.
type certs struct {
	*mesh
	node     *identity.SVID
	channel  identity.Channel
	services map[identity.Name]*identity.SVID
}

func (c *certs) NodeSVID() *identity.SVID { return c.node }
func (c *certs) Bundle() *identity.Bundle { return c.auth.Bundle() }
func (c *certs) ServiceSVID(n identity.Name) (*identity.SVID, error) {
	return c.services[n], nil
}

func newCerts(t *testing.T) *certs {
	m := newMesh(t)
	c := &certs{mesh: m, node: m.svid(identity.NodeID(td, "a")), services: map[identity.Name]*identity.SVID{},
		channel: identity.Channel{Dialer: identity.NodeID(td, "a"), Acceptor: identity.NodeID(td, "b"), Exporter: make([]byte, 32)}}
	for _, s := range []identity.Name{"web", "shop", "db", "cache"} {
		c.services[s] = m.svid(identity.ServiceID(td, s))
	}
	return c
}

func (c *certs) proof(role identity.Role, service identity.Name) []byte {
	p, err := identity.Prove(c.services[service], role, c.channel)
	testhost.Must(c.t, err)
	payload, err := message.EncodeProof(role, p)
	testhost.Must(c.t, err)
	return bytesOf(frame.Prove, 0, payload)
}

func (c *certs) drive(t *testing.T, dialled bool) *driven {
	d := &driven{t: t, loop: &fakeLoop{rouse: make(chan struct{}, 1)}, conn: &fakeConn{}}
	here, there := c.channel.Acceptor, c.channel.Dialer
	if dialled {
		here, there = there, here
	}
	on := NewLoop(d.loop)
	d.set = New(Config{Node: here, Identities: c, Log: slog.New(slog.DiscardHandler), Loops: []*Loop{on}, Budget: credit.NewBudget(1 << 20), Share: func() int { return math.MaxInt },
		Accept: accepting(func() User {
			w := &watched{}
			d.mu.Lock()
			d.users = append(d.users, w)
			d.mu.Unlock()
			return w
		})})
	d.lane = d.set.bare(there, on, dialled, c.channel, c.node.Chain[0], c.node.Chain, time.Now())
	records := &clearRecords{}
	d.wire = wire{conn: d.conn, records: records, out: frame.NewWriter(records, &on.buffers), heard: time.Now()}
	d.set.lanes[d.lane] = struct{}{}
	d.guest.Join(1)
	return d
}

// settle takes turns until nothing is left to be done.
func (d *driven) settle() {
	d.t.Helper()
	for {
		for d.loop.turn() {
		}
		if !d.busy() {
			return
		}
		select {
		case <-d.loop.rouse:
		case <-time.After(10 * time.Second):
			d.t.Fatal("nothing happens any more")
		}
	}
}

// busy says whether a goroutine is at work for the lane.
func (d *driven) busy() bool {
	d.loop.mu.Lock()
	defer d.loop.mu.Unlock()
	return d.paused || d.opening() > 0 || len(d.loop.posted) > 0
}

func (d *driven) opening() int {
	_, n := d.guest.Streams()
	return n
}

// come makes bytes come from the peer.
func (d *driven) come(b []byte) {
	d.conn.in = append(d.conn.in, b...)
	d.ready(loop.Readable)
}

func (d *driven) ready(e loop.Events) {
	if !d.ending {
		d.lane.Ready(e)
	}
}

// watched is echo that notes what it was told, and in what order.
type watched struct {
	echo
	got   []byte
	calls string // o: opened, e: end, l: lost
}

func (w *watched) Opened(s *Stream) {
	w.calls += "o"
	w.echo.Opened(s)
}

func (w *watched) Deliver(parts [][]byte) {
	for _, p := range parts {
		w.got = append(w.got, p...)
	}
	w.echo.Deliver(parts)
}

func (w *watched) End() {
	w.calls += "e"
	w.echo.End()
}

// said is what was written, per stream: DATA and CREDIT are summed up, since they may
// be divided otherwise.
type said struct {
	data   map[uint32]string
	credit map[uint32]int
	others map[uint32]string // kinds, in order; stream 0 without PONGs
	pongs  int
	ends   bool // by close_notify
}

func (d *driven) said() said {
	d.t.Helper()
	out := said{map[uint32]string{}, map[uint32]int{}, map[uint32]string{}, 0, false}
	for b := d.conn.out; len(b) > 0; {
		n, err := record.Length(b)
		if err != nil || n == 0 || n > len(b) || out.ends {
			d.t.Fatalf("what was written doesn't end with a record: %v, %d of %d bytes, after the end: %v", err, n, len(b), out.ends)
		}
		typ, plain := opened(b[:n])
		b = b[n:]
		switch typ {
		case typeEnd:
			out.ends = true
		case typeUpdate:
			out.others[0] += "(key)"
		default:
			out.add(d.t, plain)
		}
	}
	return out
}

func (s *said) add(t *testing.T, plain []byte) {
	for len(plain) > 0 {
		h, payload, rest, err := frame.Next(plain)
		testhost.Must(t, err)
		plain = rest
		switch h.Kind {
		case frame.Data:
			s.data[h.Stream] += string(payload)
		case frame.Credit:
			s.credit[h.Stream] += frame.Amount(payload)
		case frame.Pong:
			s.pongs = 1 // one may answer several
		default:
			s.others[h.Stream] += " " + h.Kind.String()
		}
	}
}

var _ socket.Conn = &fakeConn{}
