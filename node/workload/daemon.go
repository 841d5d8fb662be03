// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
)

// ProbePath is the cgroup of the daemon's own probe: a program like any other.
func (t Tree) ProbePath() string { return filepath.Join(t.own(), "probe") }

// Daemon is the state of the daemon's leaf.
type Daemon struct {
	ID     uint64 // 0: there is none
	Inside bool   // this process is in it
	Others []int  // processes that are in it as well, besides this one's children
}

// Daemon looks at the leaf. Without a root it has nothing to look at: error.
func (t Tree) Daemon() (Daemon, error) {
	if err := Check(t.root); err != nil {
		return Daemon{}, err
	}
	var d Daemon
	id, err := ID(t.daemon())
	if err != nil {
		return d, nil
	}
	d.ID = id
	pids, err := procs(t.daemon())
	if err != nil {
		return d, err
	}
	for _, pid := range pids {
		if pid == os.Getpid() {
			d.Inside = true
		} else if !childOf(pid, os.Getpid()) {
			d.Others = append(d.Others, pid)
		}
	}
	return d, nil
}

// childOf says whether pid was started by parent; what has ended by now was.
func childOf(pid, parent int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	var state byte
	var up int
	after := text[bytes.LastIndexByte(text, ')')+1:] // the name before it can hold anything
	_, err = fmt.Sscanf(string(after), " %c %d", &state, &up)
	return err == nil && up == parent
}
