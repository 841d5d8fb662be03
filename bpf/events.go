// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"
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
	Reasons    = Reason(meshReasonREASON_COUNT) // the number of reasons
)

// Event is one refusal, as the program reported it.
type Event struct {
	Time   time.Time
	Pair   Pair
	Reason Reason
	Target netip.AddrPort
	PID    uint32 // 0: reported for a packet, not for a process
	Comm   string
}

// Events calls f for each event until ctx ends. There may be one reader at a time.
func (o *Objects) Events(ctx context.Context, f func(Event)) error {
	r, err := ringbuf.NewReader(o.mesh.Events)
	if err != nil {
		return fmt.Errorf("events: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = r.Close() })
	defer stop()
	for {
		rec, err := r.Read()
		if ctx.Err() != nil || errors.Is(err, os.ErrClosed) {
			return nil
		}
		if err != nil {
			return errors.Join(fmt.Errorf("events: %w", err), r.Close())
		}
		var raw meshEvent
		if err := binary.Read(bytes.NewReader(rec.RawSample), binary.LittleEndian, &raw); err != nil {
			continue // shorter than an event
		}
		f(raw.event())
	}
}

func (e meshEvent) event() Event {
	comm := make([]byte, 0, len(e.Comm))
	for _, c := range e.Comm {
		comm = append(comm, byte(c))
	}
	return Event{Time: bootTime(e.Time), Pair: Pair{e.Source, e.Destination}, Reason: Reason(e.Reason),
		Target: fromEndpoint(e.Target), PID: e.Pid, Comm: unix.ByteSliceToString(comm)}
}

// bootTime converts nanoseconds since boot to a wall clock time.
func bootTime(ns uint64) time.Time {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return time.Now()
	}
	return time.Now().Add(-time.Duration(now.Nano() - int64(ns)))
}

// Counters returns how often each reason was given since the maps were created.
func (o *Objects) Counters() ([Reasons]uint64, error) {
	var out [Reasons]uint64
	for i := range out {
		var perCPU []uint64
		if err := o.mesh.Counters.Lookup(uint32(i), &perCPU); err != nil {
			return out, fmt.Errorf("counters: %w", err)
		}
		for _, n := range perCPU {
			out[i] += n
		}
	}
	return out, nil
}
