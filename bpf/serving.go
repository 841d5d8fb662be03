// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// SetServing tells the programs that the daemon runs, until one of these sockets
// is closed: the kernel closes them when the daemon dies.
func (o *Objects) SetServing(fds ...int) error {
	for _, fd := range fds {
		key, err := socketKey(fd)
		if err != nil {
			return err
		}
		state := meshSockState{Creator: daemonService, Mode: meshModeMODE_SERVING}
		if err := o.mesh.Sockets.Update(key, state, ebpf.UpdateAny); err != nil {
			return fmt.Errorf("mark a listener of the daemon: %w", err)
		}
	}
	if err := o.mesh.Alive.Put(uint32(0), uint32(1)); err != nil {
		return fmt.Errorf("map alive: %w", err)
	}
	return nil
}

// SetExclusions says whether there are exempt callers or targets, for which the
// programs must look.
func (o *Objects) SetExclusions(some bool) error {
	o.writing.Lock()
	same := o.settings.Exclusions == flag(some)
	o.writing.Unlock()
	if same {
		return nil // Repair handles what something else has written there
	}
	_, err := o.change(func(s *meshConfig) { s.Exclusions = flag(some) })
	return err
}

// Usage returns how many captured connections of a source the daemon has not
// accepted yet; 0: of all sources.
func (o *Objects) Usage(source uint32) (used uint64, err error) {
	err = o.mesh.Usage.Lookup(source, &used)
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return 0, fmt.Errorf("map usage: %w", err)
	}
	return used, nil
}

// Connecting returns how many captured connections may wait at once until the
// daemon accepts them: of all sources together, and of one.
func (o *Objects) Connecting() (all, one uint32) {
	all = o.mesh.Origins.MaxEntries()
	return all, all / originShare
}
