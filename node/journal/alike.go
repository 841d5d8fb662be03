// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"net/netip"
	"slices"
	"time"

	"tacit/node/api"
	"tacit/policy/kernel"
)

// alike gathers what the kernel reports, so that a program which is refused again
// and again doesn't displace all other records.
type alike struct {
	since time.Time // of the first one
	byKey map[refusal]*api.FlowRecord
}

// refusal is what reports have in common that become one record.
type refusal struct {
	source, destination api.Name
	reason              api.Reason
	target              netip.AddrPort
	client              netip.Addr
	program             string
}

// full says that what was noted must be taken before more is noted.
func (a *alike) full(now time.Time) bool {
	return len(a.byKey) >= alikeLimit || len(a.byKey) > 0 && now.Sub(a.since) >= alikeFor
}

func (a *alike) note(e kernel.Event) {
	key := refusal{e.Source, e.Destination, e.Reason, e.Target, e.Client.Addr(), e.Comm}
	if r := a.byKey[key]; r != nil {
		r.Count++
		r.Duration = e.Time.Sub(r.Time)
		return
	}
	if len(a.byKey) == 0 {
		a.since, a.byKey = time.Now(), map[refusal]*api.FlowRecord{}
	}
	a.byKey[key] = &api.FlowRecord{Count: 1, Time: e.Time, Source: e.Source, Destination: e.Destination, Direction: api.DirectionHook,
		Client: e.Client, Target: e.Target, Port: e.Target.Port(), Program: e.Comm, PID: e.PID, Reason: e.Reason}
}

// take returns the records, oldest first, and forgets them.
func (a *alike) take() []api.FlowRecord {
	out := make([]api.FlowRecord, 0, len(a.byKey))
	for _, r := range a.byKey {
		out = append(out, *r)
	}
	a.byKey = nil
	slices.SortFunc(out, func(x, y api.FlowRecord) int { return x.Time.Compare(y.Time) })
	return out
}
