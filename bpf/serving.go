// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// SetServing says that the daemon serves, as long as all of these sockets live.
// When one is closed, by the daemon's death too, the kernel takes it back.
func (o *Objects) SetServing(fds ...int) error {
	for _, fd := range fds {
		key, err := socketKey(fd)
		if err != nil {
			return err
		}
		state := meshSockState{Creator: daemonService, Mode: meshModeMODE_SERVING}
		if err := o.mesh.Sockets.Update(key, state, ebpf.UpdateAny); err != nil {
			return fmt.Errorf("mark the listener: %w", err)
		}
	}
	if err := o.mesh.Alive.Put(uint32(0), uint32(1)); err != nil {
		return fmt.Errorf("alive map: %w", err)
	}
	return nil
}

// daemonService is the creator of the daemon's own sockets.
const daemonService = Any - 1

// SetExclusions says whether targets and callers that are left alone must be
// looked for at all.
func (o *Objects) SetExclusions(some bool) error {
	o.writing.Lock()
	same := o.settings.Exclusions == flag(some)
	o.writing.Unlock()
	if same {
		return nil // what others have written is Repair's
	}
	_, err := o.change(func(s *meshConfig) { s.Exclusions = flag(some) })
	return err
}

// Usage is how many captured connections of a source are on their way; 0: of all.
func (o *Objects) Usage(source uint32) (used uint64, err error) {
	err = o.mesh.Usage.Lookup(source, &used)
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return 0, fmt.Errorf("usage map: %w", err)
	}
	return used, nil
}

// Room is how many entries the maps hold at most; Share is one source's part
// of the origins.
func (o *Objects) Room() (l Limits, share uint32) {
	l = Limits{Intentions: o.mesh.Intentions.MaxEntries(), Workloads: o.mesh.Workloads.MaxEntries(), Origins: o.mesh.Origins.MaxEntries()}
	return l, l.Origins / originShare
}
