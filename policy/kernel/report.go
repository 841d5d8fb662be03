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

// Event is one refusal by a program in the kernel.
type Event struct {
	Time                time.Time
	Source, Destination identity.Name // "": unknown
	Reason              policy.Reason
	Target              netip.AddrPort // as the caller passed it to connect()
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
}

// ReasonOf returns the name of a number, or "" for an unknown one.
func ReasonOf(r bpf.Reason) policy.Reason { return reasons[r] }

// Events calls f for each refusal until ctx ends.
func (k *Kernel) Events(ctx context.Context, f func(Event)) error {
	return k.conf.Objects.Events(ctx, func(e bpf.Event) {
		if e.Reason == bpf.Changed {
			select {
			case k.sweep <- struct{}{}:
			default:
			}
		}
		src, _ := k.conf.Numbers.Name(e.Pair.Source)
		dst, _ := k.conf.Numbers.Name(e.Pair.Destination)
		f(Event{Time: e.Time, Source: src, Destination: dst, Reason: reasons[e.Reason], Target: e.Target, PID: e.PID, Comm: e.Comm})
	})
}

// Counters returns how often each reason was given, without those that never were.
func (k *Kernel) Counters() (map[policy.Reason]uint64, error) {
	list, err := k.conf.Objects.Counters()
	if err != nil {
		return nil, err
	}
	out := map[policy.Reason]uint64{}
	for i, n := range list {
		if n != 0 {
			out[reasons[bpf.Reason(i)]] += n
		}
	}
	return out, nil
}
