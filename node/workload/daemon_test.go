// SPDX-License-Identifier: Apache-2.0

package workload_test

import (
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tacit/internal/testhost"
	"tacit/node/workload"
)

// TestDaemonLooksAtTheLeaf: who is in it, besides a process and its children.
func TestDaemonLooksAtTheLeaf(t *testing.T) {
	tree, root := newRoot(t)
	if d, err := tree.Daemon(); err != nil || d.ID != 0 || d.Inside {
		t.Errorf("without a leaf: %+v, %v", d, err)
	}
	leaf := mkdir(t, root, "tacit", "daemon")
	start(t, "wait", leaf) // a child of this process, which is no stranger
	id, err := workload.ID(leaf)
	if err != nil {
		t.Fatal(err)
	}
	if d, err := tree.Daemon(); err != nil || d.ID != id || d.Inside || len(d.Others) > 0 {
		t.Errorf("with a child: %+v, %v; want %d and nobody", d, err, id)
	}
	fd, err := unix.Open(leaf, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	cmd := exec.Command("sh", "-c", "sleep 600 >/dev/null 2>&1 & echo $!")
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: fd}
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var stranger int
	if _, err := fmt.Sscan(strings.TrimSpace(string(out)), &stranger); err != nil {
		t.Fatal(err)
	}
	d, err := tree.Daemon()
	if err != nil || len(d.Others) != 1 || d.Others[0] != stranger {
		t.Errorf("with a stranger: %+v, %v; want %d", d, err, stranger)
	}
	_ = syscall.Kill(stranger, syscall.SIGKILL)
	testhost.Eventually(t, 10*time.Second, "the stranger's end", func() error {
		if d, err := tree.Daemon(); err != nil || len(d.Others) > 0 {
			return fmt.Errorf("%+v, %v", d, err)
		}
		return nil
	})
}
