// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"slices"
	"sync"
	"time"

	"tacit/node/api"
	"tacit/policy/kernel"
	"tacit/tproxy"
)

// journalSize is how many ended and refused connections a node remembers.
const journalSize = 4096

// journal remembers the last connections that ended or were refused.
type journal struct {
	mu   sync.Mutex
	last uint64
	ring []api.FlowRecord
}

func (j *journal) add(r api.FlowRecord) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.last++
	r.Seq = j.last
	if len(j.ring) == journalSize {
		j.ring = append(j.ring[:0], j.ring[journalSize/4:]...) // a quarter at a time: cheap on average
	}
	j.ring = append(j.ring, r)
}

func (j *journal) after(seq uint64) ([]api.FlowRecord, uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	i, _ := slices.BinarySearchFunc(j.ring, seq+1, func(r api.FlowRecord, want uint64) int { return int(int64(r.Seq) - int64(want)) })
	return slices.Clone(j.ring[i:]), j.last
}

// ended is the proxy's word on a stream.
func (j *journal) ended(f tproxy.Flow) { j.add(flowRecord(f, false)) }

// refused is the kernel's word on a connect that it refused.
func (j *journal) refused(e kernel.Event) {
	j.add(api.FlowRecord{Time: e.Time, Source: e.Source, Destination: e.Destination, Direction: "hook",
		Target: e.Target, Port: e.Target.Port(), Program: e.Comm, PID: e.PID, Reason: e.Reason})
}

func flowRecord(f tproxy.Flow, live bool) api.FlowRecord {
	r := api.FlowRecord{Time: f.Start, Source: f.Source, Destination: f.Destination, Node: f.Node, Direction: f.Direction,
		Client: f.Client, DialledFrom: f.DialledFrom, Port: f.Port, Live: live, Reason: f.End, Sent: f.Sent, Received: f.Received, Duration: f.Duration}
	if live {
		r.Duration = time.Since(f.Start)
	}
	return r
}

// Flows lists what the journal has after a number, and the live streams.
func (b backend) Flows(_ context.Context, after uint64) (*api.FlowList, error) {
	out := &api.FlowList{}
	out.Flows, out.Last = b.n.journal.after(after)
	for _, f := range b.n.proxy.Flows() {
		out.Flows = append(out.Flows, flowRecord(f, true))
	}
	return out, nil
}
