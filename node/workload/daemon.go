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

// ChecksPath is the cgroup below which the scripts of health checks run, each in
// one of its own.
func (t Tree) ChecksPath() string { return filepath.Join(t.own(), "checks") }

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
	childEnds = time.Second // how long the kernel may take to end the daemon's children
	childTick = 10 * time.Millisecond
)

// end kills what is left in a cgroup and below it, and waits for its end.
func end(path string) {
	if os.WriteFile(filepath.Join(path, "cgroup.kill"), []byte("1"), 0o600) != nil {
		return // there is no such cgroup
	}
	for deadline := time.Now().Add(childEnds); time.Now().Before(deadline); time.Sleep(childTick) {
		text, err := os.ReadFile(filepath.Join(path, "cgroup.events"))
		if err != nil || !bytes.Contains(text, []byte("populated 1")) {
			return
		}
	}
}
