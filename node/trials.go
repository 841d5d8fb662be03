// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"tacit/identity"
	"tacit/node/probe"
	"tacit/node/workload"
	"tacit/policy"
	"tacit/policy/kernel"
)

// ProbeCommand is the subcommand by which a daemon starts its probe.
const ProbeCommand = "probe"

// Probe is the life of that process.
func Probe(in io.Reader, out io.Writer) error { return probe.Serve(in, out) }

// The probe is a service that only this node knows, and may call itself. Its
// name, and that of the address that is nobody's, can be no service's of users:
// they are not DNS labels.
const (
	probeService = identity.Name("tacit/probe")
	nobody       = identity.Name("tacit/nobody")
	probePort    = 7
)

// trialInterval, twice probe.Patience and what a round takes stay below 5 s:
// what fails twice in a row is shown.
const trialInterval = 1500 * time.Millisecond

// trials are the probes through the real path, and what came of the last round.
type trials struct {
	n      *Node
	prober probe.Prober
	first  chan struct{} // closed after the first round
	fault  error         // the probe has no addresses: nothing can be tried

	mu      sync.Mutex
	targets [2]map[netip.AddrPort]bool // dialled to be refused: this round, the one before
	label   string                     // of the name that is asked for now
	token   string                     // what the daemon's end of a captured connection says now
	counted map[policy.Reason]uint64   // verdicts on the probe
	results []probe.Result
	err     error // the round couldn't be run
}

// newTrials reserves the two highest numbers of the IPv4 range, and with them
// the virtual addresses.
func newTrials(n *Node) (*trials, error) {
	t := &trials{n: n, first: make(chan struct{}), counted: map[policy.Reason]uint64{}}
	t.prober = probe.Prober{Command: []string{"/proc/self/exe", ProbeCommand}, Cgroup: n.tree.ProbePath()}
	last := uint32(1)<<(32-n.cfg.Range4.Bits()) - 1
	if err := errors.Join(n.numbers.Reserve(nobody, last), n.numbers.Reserve(probeService, last-1)); err != nil {
		t.fault = fmt.Errorf("--virtual-range4 %s is used up, so nothing can be tried in it: %w", n.cfg.Range4, err)
		return t, nil
	}
	if err := os.MkdirAll(t.prober.Cgroup, 0o755); err != nil { // known from the first look on
		return nil, fmt.Errorf("the probe's cgroup: %w", err)
	}
	return t, nil
}

// run tries for as long as the daemon lives.
func (t *trials) run(ctx context.Context) error {
	defer t.prober.Close()
	tick := time.NewTicker(trialInterval)
	defer tick.Stop()
	for first := true; ; first = false {
		t.round(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if first {
			close(t.first)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// round asks once and, where something failed, once more with a new process:
// the old one may have been moved, and what is repaired now is no alarm.
func (t *trials) round(ctx context.Context) {
	results, err := t.ask(ctx)
	if ctx.Err() == nil && (err != nil || failed(results)) {
		t.prober.Moved()
		results, err = t.ask(ctx)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.results, t.err = results, err
}

func failed(results []probe.Result) bool {
	for _, r := range results {
		if r.Err != "" {
			return true
		}
	}
	return false
}

func (t *trials) ask(ctx context.Context) ([]probe.Result, error) {
	if t.fault != nil {
		return nil, t.fault
	}
	return t.prober.Ask(ctx, t.tasks())
}

// tasks are one round's: names, tokens and ports that nobody can know before.
func (t *trials) tasks() []probe.Task {
	t.mu.Lock()
	defer t.mu.Unlock()
	var random [18]byte
	_, _ = rand.Read(random[:]) // never fails
	t.token, t.label = hex.EncodeToString(random[:8]), "probe-"+hex.EncodeToString(random[8:16])
	port := max(1, binary.BigEndian.Uint16(random[16:]))
	t.targets[0], t.targets[1] = map[netip.AddrPort]bool{}, t.targets[0]
	var out []probe.Task
	add := func(name string, kind probe.Kind, to netip.Addr, port uint16, mapped bool) {
		if (kind == probe.Connect || kind == probe.Send) && t.n.cfg.Redirect == redirectTPROXY {
			return // nothing refuses there before the proxy does
		}
		task := probe.Task{Name: name, Kind: kind, To: netip.AddrPortFrom(to, port), Mapped: mapped}
		switch kind {
		case probe.Connect, probe.Send:
			t.targets[0][task.To] = true
		case probe.Captured:
			task.Want = t.token
		case probe.Names:
			task.Ask, task.Want = t.name(), t.answer(to).String()
		}
		out = append(out, task)
	}
	none4, none6 := t.n.virtual(nobody)
	self4, self6 := t.n.virtual(probeService)
	name4, name6 := t.resolvers()
	for _, f := range []struct {
		suffix           string
		none, self, name netip.Addr
		mapped           bool
	}{{"4", none4, self4, name4, false}, {"6", none6, self6, name6, false}, {" mapped", none4, self4, name4, true}} {
		if !f.none.IsValid() || f.mapped && !none6.IsValid() {
			continue // a kernel without IPv6
		}
		add("probe connect"+f.suffix, probe.Connect, f.none, port, f.mapped)
		add("probe sendmsg"+f.suffix, probe.Send, f.none, port, f.mapped)
		add("probe capture"+f.suffix, probe.Captured, f.self, probePort, f.mapped)
		if f.name.IsValid() {
			add("probe names"+f.suffix, probe.Names, f.name, 53, f.mapped)
		}
	}
	return out
}

func (t *trials) name() string {
	if len(t.n.cfg.Domains) > 0 {
		return t.label + "." + t.n.cfg.Domains[0] + "."
	}
	return t.label + ".virtual.consul."
}

// answer is the probe's own address, of the family in which a resolver is asked.
func (t *trials) answer(resolver netip.Addr) netip.Addr {
	v4, v6 := t.n.virtual(probeService)
	if resolver.Is4() {
		return v4
	}
	return v6
}

// resolvers are the first captured one of each family.
func (t *trials) resolvers() (v4, v6 netip.Addr) {
	for _, a := range t.n.resolvers.addrs() {
		switch a = a.Unmap(); {
		case a.Is4() && !v4.IsValid():
			v4 = a
		case a.Is6() && !v6.IsValid() && a.Zone() == "":
			v6 = a
		}
	}
	return v4, v6
}

// enrol makes the probe's cgroup its workload, and lets it call itself.
func (t *trials) enrol(s *kernel.State) {
	if t.fault != nil {
		return
	}
	if id, err := workload.ID(t.prober.Cgroup); err == nil {
		s.Workloads.Cgroups[id] = probeService
	}
	s.Endpoints = append(s.Endpoints, kernel.Endpoint{Service: probeService, Port: probePort, Remote: true})
	s.Own = []policy.Intention{{Source: probeService, Destination: probeService, Action: policy.Allow}}
}

// lookup answers the name that is asked for now.
func (t *trials) lookup(name identity.Name) (v4, v6 netip.Addr, ok bool) {
	t.mu.Lock()
	ok = t.label != "" && string(name) == t.label
	t.mu.Unlock()
	if !ok {
		return netip.Addr{}, netip.Addr{}, false
	}
	v4, v6 = t.n.virtual(probeService)
	return v4, v6, true
}

// takes answers a captured connection that the kernel says is the probe's own,
// and says whether it was one.
func (t *trials) takes(conn net.Conn) bool {
	tcp, ok := conn.(*net.TCPConn)
	if !ok || t.fault != nil {
		return false
	}
	at := tcp.LocalAddr().(*net.TCPAddr).AddrPort()
	if v4, v6 := t.n.virtual(probeService); at.Addr().Unmap() != v4 && at.Addr() != v6 {
		return false
	}
	if who, err := (router{t.n}).source(tcp); err != nil || who != probeService {
		return false // the proxy refuses it
	}
	t.mu.Lock()
	token := t.token
	t.counted[policy.ReasonAllowed]++
	t.mu.Unlock()
	_, _ = io.WriteString(tcp, token) // fits; the probe says if not
	_ = tcp.Close()
	return true
}

// saw says whether a refusal is of the probe, which nobody needs to hear of.
func (t *trials) saw(e kernel.Event) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.Source != probeService && !t.targets[0][e.Target] && !t.targets[1][e.Target] {
		return false
	}
	t.counted[e.Reason]++
	return true
}

// discount takes the probe's verdicts off the counters.
func (t *trials) discount(counters map[policy.Reason]uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for reason, n := range t.counted {
		if counters[reason] == 0 {
			continue
		}
		if counters[reason] -= min(n, counters[reason]); counters[reason] == 0 {
			delete(counters, reason)
		}
	}
}

// last is what the last round found.
func (t *trials) last() ([]probe.Result, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.results, t.err
}

// trialed keeps the probe's connections from the proxy.
type trialed struct {
	net.Listener
	t *trials
}

func (l trialed) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil || !l.t.takes(conn) {
			return conn, err
		}
	}
}
