// SPDX-License-Identifier: Apache-2.0

package soak

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// names looks up one of the names every 10 ms until it is killed, without waiting
// for the previous look-up: a query lost with a killed daemon ends only by the
// resolver library's time-out. It prints a line for each: the name, when the
// look-up began, how long it took, and an address or the error.
func names(list []string) error {
	for i := 0; ; i++ {
		go lookUp(list[i%len(list)])
		after(10 * time.Millisecond)
	}
}

func lookUp(name string) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	began := time.Now()
	r := net.Resolver{PreferGo: true}
	got, err := r.LookupNetIP(ctx, "ip4", name)
	said := "none"
	if err != nil {
		said = strings.ReplaceAll(err.Error(), " ", "_")
	} else if len(got) > 0 {
		said = got[0].String()
	}
	fmt.Println(name, began.UnixNano(), time.Since(began).Nanoseconds(), said)
}

// wildcard is a resolver that answers every name and remembers the queries.
type wildcard struct {
	mu    sync.Mutex
	asked []string
}

const outsideAddress = "192.0.2.7"

func (w *wildcard) serve(t *testing.T, h *testhost.Host) {
	t.Helper()
	pc, err := h.ListenPacket("udp4", h.Addr.String()+":53")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { pc.Close(); wg.Wait() })
	wg.Go(func() {
		for buf := make([]byte, 1500); ; {
			n, from, err := pc.ReadFrom(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				continue // ICMP error for an earlier reply, whose client has gone
			}
			if reply, name := answer(buf[:n]); reply != nil {
				w.mu.Lock()
				w.asked = append(w.asked, name)
				w.mu.Unlock()
				_, _ = pc.WriteTo(reply, from)
			}
		}
	})
}

// queried are the names asked for so far.
func (w *wildcard) queried() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.asked)
}

// answer replies to an A query with outsideAddress, and to any other query with no
// record (RFC 1035, section 4).
func answer(q []byte) (reply []byte, name string) {
	if len(q) < 17 {
		return nil, ""
	}
	at, labels := 12, []string{}
	for at < len(q) && q[at] != 0 {
		end := at + 1 + int(q[at])
		if end >= len(q) {
			return nil, ""
		}
		labels = append(labels, strings.ToLower(string(q[at+1:end])))
		at = end
	}
	if at+5 > len(q) {
		return nil, ""
	}
	kind := binary.BigEndian.Uint16(q[at+1:])
	reply = append(reply, q[:at+5]...)
	copy(reply[2:], []byte{0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}) // a response with one question and no record
	if kind == 1 {
		reply[7] = 1
		reply = append(reply, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 192, 0, 2, 7)
	}
	return reply, strings.Join(labels, ".")
}

// lookup is one line of names.
type lookup struct {
	name, said string
	start      time.Time
	took       time.Duration
}

func lookups(text string) []lookup {
	var out []lookup
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) == 4 && strings.HasSuffix(line, "\n") {
			out = append(out, lookup{f[0], f[3], time.Unix(0, number(f[1])), time.Duration(number(f[2]))})
		}
	}
	return out
}

// forget drops the queries so far: registering a service asks what its name means
// outside of the mesh.
func (w *wildcard) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = nil
}

// TestNamesAfterACrash: after a crash names outside the mesh resolve again at once.
// Mesh names don't, and are never sent to the resolver, which answers every name.
func TestNamesAfterACrash(t *testing.T) {
	net := testhost.NewNet(t)
	resolver := net.Host(t, "resolver")
	var w wildcard
	w.serve(t, resolver)
	h := net.Host(t, "host1")
	h.SetResolvConf(t, "nameserver "+resolver.Addr.String()+"\noptions timeout:1\n")
	h.Daemon(t, append(quiet(), "--bootstrap")...)
	startServer(t, h, "db", dbPort, "127.0.0.1")
	w.forget()
	h.MakeWorkload(t, "web")
	inMesh := []string{"db.", "db.mesh.", "db.service.consul.", "db.virtual.consul."}
	var askers []*testhost.Process
	for _, cgroup := range []string{testhost.WorkloadCgroup("web"), "user"} {
		for _, list := range [][]string{{"outside.example."}, inMesh} {
			words := program(t, append([]string{"names"}, list...)...)
			askers = append(askers, h.Start(t, cgroup, words[0], words[1:]...))
		}
	}
	for i, p := range askers {
		testhost.AwaitText(t, 30*time.Second, "names resolve", []string{outsideAddress, " 240."}[i%2], p.Output)
	}
	var outages []time.Duration
	for range size(2, 20) {
		outages = append(outages, crashNames(t, h, askers))
	}
	for _, p := range askers {
		p.Signal(syscall.SIGKILL)
		<-p.Ended()
	}
	lost := 0
	for _, p := range []*testhost.Process{askers[0], askers[2]} {
		for _, l := range lookups(p.Output()) {
			if l.took > 500*time.Millisecond || l.said != outsideAddress {
				lost++
			}
		}
	}
	figure(t, "names: queries lost in a crash, which ended by a time-out", "%d", lost)
	count(t, "names: outside the mesh, again after a crash", "1 s", spread(outages), outages[len(outages)-1] < time.Second)
	wrong := 0
	for _, p := range []*testhost.Process{askers[1], askers[3]} {
		for _, l := range lookups(p.Output()) {
			if l.said == outsideAddress {
				wrong++
			}
		}
	}
	zero(t, "names: of the mesh, answered by the wildcard resolver", wrong)
	leaked := map[string]int{}
	for _, name := range w.queried() {
		if slices.Contains(inMesh, name+".") {
			leaked[name]++
		}
	}
	count(t, "names: of the mesh, sent to the wildcard resolver", "none", leaked, len(leaked) == 0)
}

// crashNames kills the daemon, waits until names outside the mesh resolve, and
// starts it again. It returns the time from the kill to the first answer to a query
// sent after it, for the slower asker.
func crashNames(t *testing.T, h *testhost.Host, askers []*testhost.Process) time.Duration {
	t.Helper()
	killed, slowest := time.Now(), time.Duration(0)
	h.Kill(t)
	dead := time.Now() // queries sent to it until now are lost
	for _, p := range []*testhost.Process{askers[0], askers[2]} {
		testhost.Eventually(t, 20*time.Second, "outside names resolve", func() error {
			for _, l := range lookups(p.Output()) {
				if l.said == outsideAddress && l.start.After(dead) {
					slowest = max(slowest, l.start.Add(l.took).Sub(killed))
					return nil
				}
			}
			return errors.New(tail(p.Output()))
		})
	}
	after(300 * time.Millisecond) // for some look-ups of mesh names
	began := time.Now()
	h.Daemon(t, quiet()...)
	for _, p := range []*testhost.Process{askers[1], askers[3]} {
		testhost.Eventually(t, 20*time.Second, "mesh names resolve again", func() error {
			for _, l := range lookups(p.Output()) {
				if l.start.After(began) && strings.HasPrefix(l.said, "240.") {
					return nil
				}
			}
			return errors.New(tail(p.Output()))
		})
	}
	return slowest
}
