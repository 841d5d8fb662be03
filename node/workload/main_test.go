// SPDX-License-Identifier: Apache-2.0

package workload_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tacit/internal/testhost"
	"tacit/node/workload"
)

// childEnv makes this binary a process that a test can put into a cgroup:
// "wait" waits for the end of its input; "enter ROOT" enters the daemon's leaf
// of that hooked root before, and "admit ROOT" admits the process number 0.
const childEnv = "TACIT_TEST_CGROUP_CHILD"

func TestMain(m *testing.M) {
	task := os.Getenv(childEnv)
	if task == "" {
		os.Exit(m.Run())
	}
	verb, root, _ := strings.Cut(task, " ")
	switch verb {
	case "enter":
		fmt.Println(enterDaemon(root))
	case "admit":
		fmt.Println(admitZero(root))
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func enterDaemon(root string) string {
	tree, err := workload.NewTree(root)
	if err != nil {
		return err.Error()
	}
	id, err := tree.EnterDaemon()
	if err != nil {
		return err.Error()
	}
	again, err := tree.EnterDaemon()
	return fmt.Sprintf("entered %d %t %v", id, id == again, err)
}

func admitZero(root string) string {
	tree, err := workload.NewTree(root)
	return fmt.Sprint(err, tree.Admit("web", 0, -1))
}

// child is a running copy of this binary.
type child struct {
	*exec.Cmd
	stdin  io.Closer
	stdout io.Reader
}

// start starts a child in the cgroup of that path, "" for the test's own.
func start(t *testing.T, task, cgroup string) *child {
	t.Helper()
	c := &child{Cmd: exec.Command("/proc/self/exe")}
	c.Env = append(os.Environ(), childEnv+"="+task, "GORACE=atexit_sleep_ms=0") // the race detector waits a second otherwise
	if cgroup != "" {
		fd, err := unix.Open(cgroup, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = unix.Close(fd) }()
		c.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: fd}
	}
	var err error
	if c.stdin, err = c.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if c.stdout, err = c.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.end)
	return c
}

// end lets the child end and collects it.
func (c *child) end() {
	_ = c.stdin.Close()
	_ = c.Wait()
}

// says reads the child's first line.
func (c *child) says(t *testing.T) string {
	t.Helper()
	line := make([]byte, 4096)
	n, err := c.stdout.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(line[:n]))
}

// cgroup returns where the child is, as a path in the file system.
func (c *child) cgroup(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", c.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			return filepath.Join(top(t), strings.TrimSpace(path))
		}
	}
	t.Fatalf("process %d is in no cgroup v2: %s", c.Process.Pid, text)
	return ""
}

func top(t *testing.T) string {
	t.Helper()
	root, err := workload.Root()
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// newRoot makes a hooked root of the test's own; it is gone at the end, and so
// is every process that the test started in it.
func newRoot(t *testing.T) (workload.Tree, string) {
	t.Helper()
	root, err := os.MkdirTemp(top(t), "tacit-test-workload-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		testhost.Eventually(t, 5*time.Second, "remove "+root, func() error { return removeAll(root) })
	})
	tree, err := workload.NewTree(root)
	if err != nil {
		t.Fatal(err)
	}
	return tree, root
}

// removeAll removes a tree of cgroups, whose files go with their folders.
func removeAll(path string) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeAll(filepath.Join(path, e.Name())); err != nil {
				return err
			}
		}
	}
	return unix.Rmdir(path)
}

func mkdir(t *testing.T, parts ...string) string {
	t.Helper()
	path := filepath.Join(parts...)
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func gone(path string) error {
	if exists(path) {
		return fmt.Errorf("%s is still there", path)
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
