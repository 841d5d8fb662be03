// SPDX-License-Identifier: Apache-2.0

package handover

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tacit/identity"
	"tacit/internal/testhost"
	"tacit/policy"
	"tacit/tproxy"
	"tacit/tproxy/lane"
)

// daemon is an incumbent, a successor's judge, and the streams that one carries.
type daemon struct {
	tproxy.Router // nobody asks it
	mu            sync.Mutex
	steps         []string
	refuses       error
	denied        bool
	live          []tproxy.Flow
	route         tproxy.Router
	ended         chan tproxy.Flow
}

func (d *daemon) did(step string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.steps = append(d.steps, step)
}

func (d *daemon) done() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.steps, " ")
}

func (d *daemon) await(t *testing.T, steps string) {
	t.Helper()
	testhost.Eventually(t, 5*time.Second, steps, func() error {
		if got := d.done(); !strings.HasPrefix(got, steps) {
			return errors.New(got)
		}
		return nil
	})
}

func (d *daemon) deny() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.denied = true
}

func (d *daemon) Hold(h Hello) (State, Sockets, error) {
	if d.refuses != nil {
		return State{}, nil, d.refuses
	}
	d.did("hold")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	return State{Version: "1", Epoch: 7, Alive: []identity.Name{h.Node}, Services: []Certificate{{"db", []byte("c"), []byte("k")}}},
		Sockets{"a port": ln.(syscall.Conn)}, err
}

func (d *daemon) Resume()  { d.did("resume") }
func (d *daemon) Release() { d.did("release") }

func (d *daemon) Decide(_, destination identity.Name) policy.Decision {
	d.mu.Lock()
	defer d.mu.Unlock()
	return policy.Decision{Allowed: !d.denied, Reason: policy.ReasonIntention}
}

func (d *daemon) Granted(node, _ identity.Name) bool { return node == "host1" }

func (d *daemon) Check(id identity.ID, _ []identity.KeyID) error {
	if id.Name() == "revoked" {
		return policy.Refuse(policy.ReasonRevoked, "its key is")
	}
	return nil
}

func (d *daemon) Ended(f tproxy.Flow) { d.ended <- f }

func (d *daemon) Flows() []tproxy.Flow {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.live
}

func (d *daemon) Lanes() []lane.Info { return nil }

// Sweep ends the streams that are denied, as the proxy does.
func (d *daemon) Sweep() int {
	if d.route.Decide("web", "db").Allowed {
		d.did("kept")
		return 0
	}
	d.did("cut")
	d.mu.Lock()
	defer d.mu.Unlock()
	n := len(d.live)
	d.live = nil
	return n
}

// serve answers successors; what Run returns is sent.
func serve(t *testing.T, in Incumbent) (path string, taken chan *Successor) {
	t.Helper()
	path = Path(t.TempDir())
	s, err := Listen(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	taken = make(chan *Successor, 1)
	go func() {
		after, err := s.Run(ctx, in)
		if err != nil {
			t.Error(err)
		}
		taken <- after
	}()
	t.Cleanup(cancel)
	return path, taken
}

// TestRefused: nothing was held, and nobody is there.
func TestRefused(t *testing.T) {
	d := &daemon{refuses: errors.New("not now")}
	path, _ := serve(t, d)
	if _, err := Ask(path, Hello{}); err == nil || !strings.HasSuffix(err.Error(), "refuses: not now") || d.done() != "" {
		t.Errorf("%v after %q", err, d.done())
	}
	if _, err := Ask(filepath.Join(t.TempDir(), "none"), Hello{}); !errors.Is(err, ErrNobody) {
		t.Errorf("no socket: %v", err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("socket %v, %v", st.Mode(), err)
	}
}

// TestCancelled: the incumbent resumes each time, and can be asked again.
func TestCancelled(t *testing.T) {
	d := &daemon{}
	path, _ := serve(t, d)
	want := ""
	for range 2 {
		s, err := Ask(path, Hello{Node: "host1"})
		if err != nil || s.PID != os.Getpid() || s.Epoch != 7 || len(s.Sockets) != 1 || len(s.StillAlive()) != 1 {
			t.Fatalf("%+v, %v", s, err)
		}
		s.Cancel()
		want = strings.TrimSpace(want + " hold resume")
		d.await(t, want)
	}
}

// TestJudged: the old daemon's streams are those that the new one allows, from its first
// verdict on, and after its end none is.
func TestJudged(t *testing.T) {
	old, next := &daemon{live: make([]tproxy.Flow, 2)}, &daemon{ended: make(chan tproxy.Flow, 1)}
	path, taken := serve(t, old)
	s, err := Ask(path, Hello{Node: "host1"})
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.Take()
	if err != nil || old.done() != "hold release" {
		t.Fatalf("%v after %q", err, old.done())
	}
	b := &Bench{}
	old.route = b.Route()
	after := <-taken
	carried := make(chan error, 1)
	go func() { carried <- b.Carry(t.Context(), after, old, nil, time.Minute) }()
	p.Judge(next)
	old.await(t, "hold release kept")
	if !strings.Contains(p.Draining(), "2 streams") || len(p.Daemons()) != 1 {
		t.Errorf("%q, %q", old.done(), p.Draining())
	}
	if r := b.Route(); !r.Granted("host1", "db") || r.Granted("host2", "db") {
		t.Error("grants aren't those of the successor")
	}
	for name, want := range map[identity.Name]policy.Reason{"host1": "", "revoked": policy.ReasonRevoked} {
		if got := policy.ReasonOf(b.Check(identity.NodeID("example.test", name), nil), ""); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	b.Ended(tproxy.Flow{Source: "web", End: policy.ReasonClosed})
	if f := <-next.ended; f.Source != "web" || f.End != policy.ReasonClosed {
		t.Errorf("the successor heard of %+v", f)
	}
	next.deny()
	p.Sweep()
	if err := <-carried; err != nil || old.done() != "hold release kept cut" {
		t.Errorf("%v after %q", err, old.done())
	}
	b.Close()
	<-p.Done()
	if p.Draining() != "" || p.Daemons() != nil {
		t.Errorf("after its end: %q", p.Draining())
	}
	if b.Route().Decide("web", "db").Allowed || b.Route().Granted("host1", "db") || b.Check(identity.NodeID("example.test", "host1"), nil) == nil {
		t.Error("something is allowed although the successor can't be asked")
	}
}

// TestSuccessorGone: an old daemon whose successor has ended learns of it at once.
func TestSuccessorGone(t *testing.T) {
	old := &daemon{live: make([]tproxy.Flow, 1)}
	path, taken := serve(t, old)
	s, err := Ask(path, Hello{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Take(); err != nil {
		t.Fatal(err)
	}
	b := &Bench{}
	s.Cancel()
	if err := b.Carry(t.Context(), <-taken, old, nil, time.Minute); !errors.Is(err, errGone) {
		t.Error(err)
	}
}

// TestRow: of three daemons the first asks the second, which asks the third, also when
// the second carries nothing itself. It ends after the first.
func TestRow(t *testing.T) {
	first, second, third := &daemon{live: make([]tproxy.Flow, 1)}, &daemon{}, &daemon{}
	benches := []*Bench{{Router: first}, {Router: second}}
	first.route, second.route = benches[0].Route(), benches[1].Route()
	var before []*Predecessor
	carried := []chan error{make(chan error, 1), make(chan error, 1)}
	for i, d := range []*daemon{first, second} {
		path, taken := serve(t, d)
		s, err := Ask(path, Hello{})
		if err != nil {
			t.Fatal(err)
		}
		p, err := s.Take()
		if err != nil {
			t.Fatal(err)
		}
		earlier := append([]*Predecessor{nil}, before...)[i]
		before = append(before, p)
		go func() { carried[i] <- benches[i].Carry(t.Context(), <-taken, d, earlier, time.Minute) }()
	}
	before[0].Judge(judge{benches[1], nil})
	before[1].Judge(third)
	first.await(t, "hold release kept")
	testhost.Eventually(t, 5*time.Second, "the third knows of the stream", func() error {
		if says := before[1].Draining(); !strings.Contains(says, "1 streams") {
			return errors.New(says)
		}
		return nil
	})
	third.deny()
	before[1].Sweep()
	if err := <-carried[0]; err != nil || !strings.HasSuffix(first.done(), " cut") {
		t.Errorf("%v after %q", err, first.done())
	}
	if len(carried[1]) > 0 {
		t.Error("the second ended before the first")
	}
	benches[0].Close()
	if err := <-carried[1]; err != nil {
		t.Error(err)
	}
	benches[1].Close()
	<-before[1].Done()
}
