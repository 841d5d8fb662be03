// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"tacit/node/api"
	"tacit/node/api/flow"
	"tacit/node/journal"
	"tacit/policy/resolver"
	"tacit/tproxy"
)

// host answers `tacit resolve`, `tacit flows`, `tacit confirm`, and in
// status.go `tacit status`.
type host struct{ *control }

// Resolve says what the mesh answers for a name.
func (h host) Resolve(_ context.Context, name string) (*api.Resolution, error) {
	out := &api.Resolution{Name: name}
	service, why := h.Names.Service(name)
	out.Why = why
	if service == "" {
		return out, nil
	}
	out.Service = service
	if leaves := h.leaves(service); leaves != "" {
		out.Why += "; " + leaves
	}
	out.Virtual4, out.Virtual6 = h.virtual(service)
	cat := h.Loop.Catalog()
	_, service = resolver.Cut(service) // of a subset
	out.Ports = cat.Ports(service)
	if cat.DefaultPort(service) != 0 {
		out.Ports = append(out.Ports, 80, 443)
		slices.Sort(out.Ports)
		out.Ports = slices.Compact(out.Ports)
	}
	return out, nil
}

// Flows lists what the journal has after a number, and the live streams, oldest first.
func (h host) Flows(_ context.Context, q flow.Query) (*flow.List, error) {
	all, last, err := h.Journal.After(q.After)
	if err != nil {
		return nil, err
	}
	sums, err := h.Journal.Totals()
	if err != nil {
		return nil, err
	}
	now, missed := time.Now(), flow.Missed(q.After, all)
	return &flow.List{Sums: sums, Last: last, Missed: missed, Flows: append(q.Select(now, all), h.live(q, now)...)}, nil
}

func (h host) live(q flow.Query, now time.Time) []flow.Record {
	if q.Live == flow.LiveNot {
		return nil
	}
	streams := h.Proxy.Flows()
	slices.SortFunc(streams, func(a, b tproxy.Flow) int { return a.Start.Compare(b.Start) })
	all := make([]flow.Record, len(streams))
	for i, f := range streams {
		all[i] = journal.Live(f)
	}
	return q.Select(now, all)
}

// Confirm makes a start permanent.
func (h host) Confirm(context.Context, api.ConfirmRequest) (*api.ConfirmResult, error) {
	had, err := h.Deadline.Confirm()
	if err != nil || !had {
		return &api.ConfirmResult{}, err
	}
	h.Settings.Log.Info("confirmed: what was changed stays")
	hooks, err := h.Datapath.Hooks()
	if err != nil {
		return nil, err
	}
	out := &api.ConfirmResult{Confirmed: true, Permanent: []string{
		fmt.Sprintf("%d eBPF programs on the cgroup %s and this network namespace", len(hooks), h.Tree.Root()),
		"their maps and links, pinned below " + h.Settings.BPFDir,
	}}
	for line := range strings.Lines(h.Datapath.Plan().String()) {
		out.Permanent = append(out.Permanent, strings.TrimSpace(line))
	}
	return out, nil
}
