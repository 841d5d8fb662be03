// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"net/netip"
	"time"

	"tacit/bpf"
	"tacit/identity"
	"tacit/policy"
)

// Event is one refusal by a program in the kernel, or with ReasonPermissive a plain
// connection that was let in, or with ReasonChanged one that was cut.
type Event struct {
	Time                time.Time
	Source, Destination identity.Name // "": unknown
	Reason              policy.Reason
	Target              netip.AddrPort // as the caller passed it to connect()
	Client              netip.AddrPort // the sender of a packet that arrived, else zero
	PID                 uint32
	Comm                string
}

// reasons names the kernel's numbers. A test finds a number without a name.
var reasons = map[bpf.Reason]policy.Reason{
	bpf.Allowed: policy.ReasonAllowed, bpf.Intention: policy.ReasonIntention, bpf.Default: policy.ReasonDefault,
	bpf.Identity: policy.ReasonIdentity, bpf.Creator: policy.ReasonCreator, bpf.Depth: policy.ReasonDepth,
	bpf.NoPort: policy.ReasonPort, bpf.NoInstance: policy.ReasonInstance, bpf.UDP: policy.ReasonUDP,
	bpf.Guarded: policy.ReasonGuard, bpf.NoTag: policy.ReasonTag, bpf.NoDaemon: policy.ReasonDaemon,
	bpf.Limit: policy.ReasonLimit, bpf.Self: policy.ReasonSelf, bpf.Permissive: policy.ReasonPermissive,
	bpf.Changed: policy.ReasonChanged, bpf.Device: policy.ReasonDevice, bpf.Listener: policy.ReasonListener,
	bpf.Diverted: policy.ReasonDiverted, bpf.Name: policy.ReasonName,
	bpf.Late: policy.ReasonLate,
	bpf.Dial: policy.ReasonDial, bpf.Closed: policy.ReasonClosed, bpf.Reset: policy.ReasonReset,
}

// ReasonOf returns the name of a number, or "" for an unknown one.
func ReasonOf(r bpf.Reason) policy.Reason { return reasons[r] }

// Events calls f for each event until ctx ends.
func (k *Kernel) Events(ctx context.Context, f func(Event)) error {
	return k.conf.Objects.Events(ctx, func(e bpf.Event) {
		if e.Target.Port() == 0 && e.Reason == bpf.Changed {
			select {
			case k.sweep <- struct{}{}:
			default:
			}
			return
		}
		out := Event{Time: e.Time, Reason: reasons[e.Reason], Target: e.Target, PID: e.PID, Comm: e.Comm}
		out.Source, out.Destination = k.names(e.Pair)
		if e.Client.Port() != 0 {
			out.Client = e.Client
		}
		f(out)
	})
}

// names are "" where they are unknown.
func (k *Kernel) names(p bpf.Pair) (source, destination identity.Name) {
	source, _ = k.conf.Numbers.Name(p.Source)
	destination, _ = k.conf.Numbers.Name(p.Destination)
	return source, destination
}

// Counters returns how often each reason was given, and how many of those no event
// tells of, without reasons that never were. Both count since the maps were made.
func (k *Kernel) Counters() (given, lost map[policy.Reason]uint64, err error) {
	list, err := k.conf.Objects.Counters()
	if err != nil {
		return nil, nil, err
	}
	given, lost = map[policy.Reason]uint64{}, map[policy.Reason]uint64{}
	for i, n := range list {
		reason := reasons[bpf.Reason(i)]
		if n.Given != 0 {
			given[reason] = n.Given
		}
		if n.Lost != 0 {
			lost[reason] = n.Lost
		}
	}
	return given, lost, nil
}

// Direct is a kind of connections that went from program to program.
type Direct struct {
	Source, Destination identity.Name
	Port                uint16        // of the instance
	Reason              policy.Reason // of the end
}

// Sum is what such connections carried.
type Sum struct{ Connections, Sent, Received uint64 }

// Minus is what came after an earlier sum.
func (s Sum) Minus(earlier Sum) Sum {
	return Sum{s.Connections - earlier.Connections, s.Sent - earlier.Sent, s.Received - earlier.Received}
}

// Directs sums the connections from program to program that have ended since the
// maps were made. Services that have lost their names count as one.
func (k *Kernel) Directs() (map[Direct]Sum, error) {
	list, err := k.conf.Objects.Directs()
	if err != nil {
		return nil, err
	}
	out := make(map[Direct]Sum, len(list))
	for d, n := range list {
		key := Direct{Port: d.Port, Reason: reasons[d.Reason]}
		key.Source, key.Destination = k.names(d.Pair)
		sum := out[key]
		out[key] = Sum{sum.Connections + n.Connections, sum.Sent + n.Sent, sum.Received + n.Received}
	}
	return out, nil
}
