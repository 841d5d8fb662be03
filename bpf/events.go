// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"tacit/bpf/ring"
)

// Reason is a reason as the programs number it. policy/kernel names it.
type Reason uint32

// The reasons: enum reason of types.h.
const (
	Allowed    = Reason(meshReasonREASON_ALLOWED)
	Intention  = Reason(meshReasonREASON_INTENTION)
	Default    = Reason(meshReasonREASON_DEFAULT)
	Identity   = Reason(meshReasonREASON_IDENTITY)
	Creator    = Reason(meshReasonREASON_CREATOR)
	Depth      = Reason(meshReasonREASON_DEPTH)
	NoPort     = Reason(meshReasonREASON_PORT)
	NoInstance = Reason(meshReasonREASON_INSTANCE)
	UDP        = Reason(meshReasonREASON_UDP)
	Guarded    = Reason(meshReasonREASON_GUARD)
	NoTag      = Reason(meshReasonREASON_TAG)
	NoDaemon   = Reason(meshReasonREASON_DAEMON)
	Limit      = Reason(meshReasonREASON_LIMIT)
	Self       = Reason(meshReasonREASON_SELF)
	Permissive = Reason(meshReasonREASON_PERMISSIVE)
	Changed    = Reason(meshReasonREASON_CHANGED)
	Device     = Reason(meshReasonREASON_DEVICE)
	Listener   = Reason(meshReasonREASON_LISTENER)
	Diverted   = Reason(meshReasonREASON_DIVERTED)
	Name       = Reason(meshReasonREASON_NAME)
	Late       = Reason(meshReasonREASON_LATE)
	Dial       = Reason(meshReasonREASON_DIAL) // this one and the next two: ends of same-node connections
	Closed     = Reason(meshReasonREASON_CLOSED)
	Reset      = Reason(meshReasonREASON_RESET)
	Reasons    = Reason(meshReasonREASON_COUNT) // the number of reasons
)

// Event is one refusal, as the program reported it.
type Event struct {
	Time   time.Time
	Pair   Pair
	Reason Reason
	Target netip.AddrPort // port 0: nothing was refused, but the daemon is to sweep
	Client netip.AddrPort // the sender of a packet that arrived, else of port 0
	PID    uint32         // 0: reported for a packet, not for a process
	Comm   string
}

// Events calls f for each event until ctx ends. There may be one reader at a time.
func (o *Objects) Events(ctx context.Context, f func(Event)) error {
	err := ring.Each(ctx, o.mesh.Events, func(raw []byte) {
		var e meshEvent
		if binary.Read(bytes.NewReader(raw), binary.LittleEndian, &e) == nil { // else it is shorter than an event
			f(e.event())
		}
	})
	if err != nil {
		return fmt.Errorf("events: %w", err)
	}
	return nil
}

func (e meshEvent) event() Event {
	comm := make([]byte, 0, len(e.Comm))
	for _, c := range e.Comm {
		comm = append(comm, byte(c))
	}
	return Event{Time: bootTime(e.Time), Pair: Pair{e.Source, e.Destination}, Reason: Reason(e.Reason),
		Target: fromEndpoint(e.Target), Client: fromEndpoint(e.Client), PID: e.Pid, Comm: unix.ByteSliceToString(comm)}
}

// bootTime converts nanoseconds since boot to a wall clock time.
func bootTime(ns uint64) time.Time {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return time.Now()
	}
	return time.Now().Add(-time.Duration(now.Nano() - int64(ns)))
}

// Count is how often a reason was given since the maps were created, and how many of
// those no event tells of, since the ring buffer was full.
type Count struct{ Given, Lost uint64 }

// Counters returns the count of each reason.
func (o *Objects) Counters() (out [Reasons]Count, err error) {
	for i := range out {
		given, err := o.counter(uint32(i))
		lost, err2 := o.counter(uint32(Reasons) + uint32(i))
		if err = errors.Join(err, err2); err != nil {
			return out, fmt.Errorf("counters: %w", err)
		}
		out[i] = Count{given, lost}
	}
	return out, nil
}

func (o *Objects) counter(at uint32) (sum uint64, err error) {
	var perCPU []uint64
	err = o.mesh.Counters.Lookup(at, &perCPU)
	for _, n := range perCPU {
		sum += n
	}
	return sum, err
}

// Direct is a kind of same-node connections that have ended.
type Direct struct {
	Pair   Pair
	Port   uint16 // of the instance
	Reason Reason
}

// Sum is what connections carried; their bytes are counted at the caller.
type Sum struct{ Connections, Sent, Received uint64 }

// Directs sums the same-node connections since the maps were created.
func (o *Objects) Directs() (map[Direct]Sum, error) {
	return table("direct", o.mesh.Direct,
		form[Direct, meshDirectKey]{from: func(k meshDirectKey) Direct {
			return Direct{Pair{k.Source, k.Destination}, k.Port, Reason(k.Reason)}
		}},
		form[Sum, meshDirectValue]{from: func(v meshDirectValue) Sum { return Sum{v.Connections, v.Sent, v.Received} }}).All()
}
