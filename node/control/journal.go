// SPDX-License-Identifier: Apache-2.0

package control

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"tacit/node/api"
	"tacit/policy/kernel"
	"tacit/tproxy"
)

// journalSize is how many ended and refused connections a node remembers.
const journalSize = 4096

// Journal remembers the last connections that ended or were refused. The zero
// value is empty and ready.
type Journal struct {
	mu   sync.Mutex
	last uint64
	ring []api.FlowRecord
}

func (j *Journal) add(r api.FlowRecord) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.last++
	r.Seq = j.last
	if len(j.ring) == journalSize {
		j.ring = append(j.ring[:0], j.ring[journalSize/4:]...) // a quarter at a time: cheap on average
	}
	j.ring = append(j.ring, r)
}

// after returns the records with a higher number, and the highest number.
func (j *Journal) after(seq uint64) ([]api.FlowRecord, uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	i, found := slices.BinarySearchFunc(j.ring, seq, func(r api.FlowRecord, seq uint64) int { return cmp.Compare(r.Seq, seq) })
	if found {
		i++
	}
	return slices.Clone(j.ring[i:]), j.last
}

// Ended notes a stream that the proxy carried or refused.
func (j *Journal) Ended(f tproxy.Flow) { j.add(flowRecord(f, false)) }

// Refused notes a connection that the kernel refused.
func (j *Journal) Refused(e kernel.Event) {
	j.add(api.FlowRecord{Time: e.Time, Source: e.Source, Destination: e.Destination, Direction: "hook",
		Target: e.Target, Port: e.Target.Port(), Program: e.Comm, PID: e.PID, Reason: e.Reason})
}

func flowRecord(f tproxy.Flow, live bool) api.FlowRecord {
	r := api.FlowRecord{Time: f.Start, Source: f.Source, Destination: f.Destination, For: f.For, Node: f.Node, Direction: f.Direction,
		Client: f.Client, DialledFrom: f.DialledFrom, Port: f.Port, Live: live, Reason: f.End, Sent: f.Sent, Received: f.Received, Duration: f.Duration}
	if live {
		r.Duration = time.Since(f.Start)
	}
	return r
}
