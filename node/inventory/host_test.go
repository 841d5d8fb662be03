// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tacit/internal/testhost"
	"tacit/node/config"
	"tacit/node/health"
	"tacit/node/workload"
)

// host is what an Inventory looks at in a test: a hooked root of its own, a
// network namespace of its own, service files and a store.
type host struct {
	*Inventory
	t     testing.TB
	root  string
	dir   string // service files
	board *health.Board
	store memory
	log   strings.Builder
}

// memory is a Store without a disk.
type memory map[string][]byte

const serviceKey = "service "

func (m memory) Get(name string) ([]byte, error)     { return m[name], nil }
func (m memory) Set(name string, value []byte) error { m[name] = value; return nil }
func (m memory) DeleteService(id string) error       { delete(m, serviceKey+id); return nil }

func (m memory) PutService(id string, definition any) (err error) {
	m[serviceKey+id], err = json.Marshal(definition)
	return err
}

func (m memory) Services(f func(id string, text []byte) error) error {
	for _, key := range slices.Sorted(maps.Keys(m)) {
		if id, ok := strings.CutPrefix(key, serviceKey); ok {
			if err := f(id, m[key]); err != nil {
				return err
			}
		}
	}
	return nil
}

func newHost(t testing.TB, exclude config.Exclude) *host {
	t.Helper()
	h := &host{t: t, root: newRoot(t), dir: t.TempDir(), board: health.NewBoard(), store: memory{}}
	ownNetwork(t)
	h.reopen(exclude)
	return h
}

// reopen is a restart of the daemon.
func (h *host) reopen(exclude config.Exclude) {
	h.t.Helper()
	tree, err := workload.NewTree(h.root)
	if err != nil {
		h.t.Fatal(err)
	}
	settings := &config.Settled{Config: config.Config{Paths: config.Paths{ServicesDir: h.dir}, Exclude: exclude}}
	h.Inventory, err = Open(Config{Settings: settings, Tree: tree, Store: h.store, Health: h.board, Log: slog.New(slog.NewTextHandler(&h.log, nil))})
	if err != nil {
		h.t.Fatal(err)
	}
}

// file writes a service file and has it read.
func (h *host) file(name, text string) {
	h.t.Helper()
	h.write(name, text)
	h.reload()
}

func (h *host) write(name, text string) {
	h.t.Helper()
	if err := os.WriteFile(filepath.Join(h.dir, name), []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) reload() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.readFiles()
}

// cgroup makes a cgroup below the hooked root.
func (h *host) cgroup(path string) workload.Cgroup {
	h.t.Helper()
	path = filepath.Join(h.root, path)
	if err := os.MkdirAll(path, 0o755); err != nil {
		h.t.Fatal(err)
	}
	id, err := workload.ID(path)
	if err != nil {
		h.t.Fatal(err)
	}
	return workload.Cgroup{Path: path, ID: id}
}

// listen listens on every IPv4 address.
func (h *host) listen(port int) net.Listener {
	h.t.Helper()
	ln, err := net.Listen("tcp4", fmt.Sprintf("0.0.0.0:%d", port))
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = ln.Close() })
	return ln
}

func newRoot(t testing.TB) string {
	t.Helper()
	top, err := workload.Root()
	if err != nil {
		t.Fatal(err)
	}
	root, err := os.MkdirTemp(top, "tacit-test-inventory-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		testhost.Eventually(t, 5*time.Second, "remove "+root, func() error { return removeAll(root) })
	})
	return root
}

// removeAll removes a tree of cgroups, whose files go with their directories.
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

// ownNetwork gives the test's goroutine a network namespace for the rest of the
// test, with loopback up. Other goroutines stay outside.
func ownNetwork(t testing.TB) {
	t.Helper()
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(s) }()
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	lo.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, lo); err != nil {
		t.Fatal(err)
	}
}
