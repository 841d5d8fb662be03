// SPDX-License-Identifier: Apache-2.0

// Package journal remembers which connections ended or were refused: the last ones
// one by one, and sums of all since the daemon's start. Its memory is bounded. It must
// not decide, refuse or count anything in the kernel.
package journal

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"tacit/node/api"
	"tacit/policy"
	"tacit/policy/kernel"
	"tacit/tproxy"
)

const (
	size       = 4096        // records
	alikeFor   = time.Second // refusals that are alike within this time are one record
	alikeLimit = 256         // kinds of refusals in that time; more end it
)

// Kernel is what the programs have counted since their maps were made.
type Kernel interface {
	Counters() (given, lost map[policy.Reason]uint64, err error)
	Directs() (map[kernel.Direct]kernel.Sum, error)
}

// Journal is safe for concurrent use.
type Journal struct {
	kernel  Kernel
	before  map[policy.Reason]uint64 // lost before the daemon's start
	mu      sync.Mutex
	last    uint64
	ring    []api.FlowRecord
	dropped uint64
	totals  map[kind]api.FlowTotal
	alike   alike
	directs directs
}

type kind struct {
	direction string
	reason    api.Reason
}

// directs is what the kernel had summed at the last look.
type directs struct {
	at  time.Time
	sum map[kernel.Direct]kernel.Sum
}

// New begins an empty journal: what the kernel counted before isn't its.
func New(k Kernel) (*Journal, error) {
	_, lost, err := k.Counters()
	if err != nil {
		return nil, err
	}
	sum, err := k.Directs()
	if err != nil {
		return nil, err
	}
	return &Journal{kernel: k, before: lost, totals: map[kind]api.FlowTotal{}, directs: directs{time.Now(), sum}}, nil
}

// add is called with mu held.
func (j *Journal) add(r api.FlowRecord) {
	j.last++
	r.Seq = j.last
	k := kind{r.Direction, r.Reason}
	t := j.totals[k]
	j.totals[k] = api.FlowTotal{Direction: r.Direction, Reason: r.Reason, Count: t.Count + r.Count, Sent: t.Sent + r.Sent, Received: t.Received + r.Received}
	if len(j.ring) == size { // a quarter at a time: cheap on average
		for _, old := range j.ring[:size/4] {
			j.dropped += old.Count
		}
		j.ring = append(j.ring[:0], j.ring[size/4:]...)
	}
	j.ring = append(j.ring, r)
}

// Ended notes a stream that the proxy carried or refused.
func (j *Journal) Ended(f tproxy.Flow) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.add(record(f))
}

// Refused notes what the kernel reports.
func (j *Journal) Refused(e kernel.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.alike.full(time.Now()) {
		j.settle()
	}
	j.alike.note(e)
}

// settle makes records of the refusals that were noted. It is called with mu held.
func (j *Journal) settle() {
	for _, r := range j.alike.take() {
		j.add(r)
	}
}

// look makes records of the connections from program to program that have ended
// since the last look. It is called with mu held.
func (j *Journal) look() error {
	now := time.Now()
	sum, err := j.kernel.Directs()
	if err != nil {
		return err
	}
	for d, n := range sum {
		if n = n.Minus(j.directs.sum[d]); n.Connections == 0 {
			continue
		}
		j.add(api.FlowRecord{Count: n.Connections, Time: j.directs.at, Source: d.Source, Destination: d.Destination, Direction: api.DirectionDirect,
			Port: d.Port, Reason: d.Reason, Sent: n.Sent, Received: n.Received, Duration: now.Sub(j.directs.at)})
	}
	j.directs = directs{now, sum}
	return nil
}

// After returns the records with a higher number, and the highest number.
func (j *Journal) After(seq uint64) ([]api.FlowRecord, uint64, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.settle()
	if err := j.look(); err != nil {
		return nil, 0, err
	}
	i, found := slices.BinarySearchFunc(j.ring, seq, func(r api.FlowRecord, seq uint64) int { return cmp.Compare(r.Seq, seq) })
	if found {
		i++
	}
	return slices.Clone(j.ring[i:]), j.last, nil
}

// Totals sums all connections since the start.
func (j *Journal) Totals() (out api.FlowTotals, err error) {
	_, lost, err := j.kernel.Counters()
	if err != nil {
		return out, err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.settle()
	if err := j.look(); err != nil {
		return out, err
	}
	out.Totals = slices.SortedFunc(maps.Values(j.totals), func(a, b api.FlowTotal) int {
		return cmp.Or(cmp.Compare(a.Direction, b.Direction), cmp.Compare(a.Reason, b.Reason))
	})
	out.Dropped, out.Lost = j.dropped, map[policy.Reason]uint64{}
	for reason, n := range lost {
		if n > j.before[reason] {
			out.Lost[reason] = n - j.before[reason]
		}
	}
	return out, nil
}

func record(f tproxy.Flow) api.FlowRecord {
	return api.FlowRecord{Count: 1, Time: f.Start, Source: f.Source, Destination: f.Destination, For: f.For, Node: f.Node, Direction: f.Direction,
		Client: f.Client, DialledFrom: f.DialledFrom, Port: f.Port, Reason: f.End, Sent: f.Sent, Received: f.Received, Duration: f.Duration}
}

// Live is the record of a stream that goes on.
func Live(f tproxy.Flow) api.FlowRecord {
	r := record(f)
	r.Live, r.Duration = true, time.Since(f.Start)
	return r
}
