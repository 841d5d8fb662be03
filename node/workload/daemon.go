// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// ProbePath is the cgroup of the daemon's own probe, which is treated like any
// other program.
func (t Tree) ProbePath() string { return filepath.Join(t.own(), "probe") }

// Daemon is the state of the daemon's leaf.
type Daemon struct {
	ID     uint64 // 0: there is none
	Inside bool   // this process is in it
	Others []int  // other processes in it, without this process's children
}

// Daemon examines the leaf. Errors: the hooked root is in no cgroup v2 tree.
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

// childOf reports whether parent started pid, or pid has ended.
func childOf(pid, parent int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	var state byte
	var up int
	after := text[bytes.LastIndexByte(text, ')')+1:] // the name before it may contain anything
	_, err = fmt.Sscanf(string(after), " %c %d", &state, &up)
	return err == nil && up == parent
}

const (
	probeEnds = time.Second // how long the kernel may take to end the probe
	probeTick = 10 * time.Millisecond
)

// endProbe kills what is left in the probe's cgroup, and waits for its end.
func (t Tree) endProbe() {
	if os.WriteFile(filepath.Join(t.ProbePath(), "cgroup.kill"), []byte("1"), 0o600) != nil {
		return // there is no such cgroup
	}
	for deadline := time.Now().Add(probeEnds); time.Now().Before(deadline); time.Sleep(probeTick) {
		if left, err := procs(t.ProbePath()); err != nil || len(left) == 0 {
			return
		}
	}
}
