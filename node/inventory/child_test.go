// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"tacit/node/workload"
)

// childEnv makes this binary a program that listens at the address it names,
// until its input ends.
const childEnv = "TACIT_TEST_INVENTORY_CHILD"

func TestMain(m *testing.M) {
	at := os.Getenv(childEnv)
	if at == "" {
		os.Exit(m.Run())
	}
	_, err := net.Listen("tcp", at)
	fmt.Println("listens:", err)
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// listenIn starts a program in a cgroup and in the test's network namespace,
// that listens at an address until stop.
func listenIn(t *testing.T, in workload.Cgroup, at string) (stop func()) {
	t.Helper()
	return listenWith(t, in, at, 0)
}

// listenInside is listenIn in a network namespace of the child's own.
func listenInside(t *testing.T, in workload.Cgroup, at string) (stop func()) {
	t.Helper()
	return listenWith(t, in, at, unix.CLONE_NEWNET)
}

func listenWith(t *testing.T, in workload.Cgroup, at string, flags uintptr) (stop func()) {
	t.Helper()
	fd, err := unix.Open(in.Path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childEnv+"="+at, "GORACE=atexit_sleep_ms=0") // the race detector waits a second otherwise
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: fd, Cloneflags: flags}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = func() { _, _ = stdin.Close(), cmd.Wait() }
	t.Cleanup(stop)
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || line != "listens: <nil>\n" {
		t.Fatalf("%q, %v", line, err)
	}
	return stop
}
