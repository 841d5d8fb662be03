// SPDX-License-Identifier: Apache-2.0

package limits

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	share     = 8                    // connections leave an eighth of the memory,
	mostKept  = 512 << 20            // at most so many bytes, free,
	heapShare = 4                    // and the heap a quarter before the collector works harder
	fresh     = 5 * time.Millisecond // how long a reading is good for: 20 new connections, at the fastest
)

// memory is what the cgroup of this process uses and may use. The zero value has
// no limit.
type memory struct {
	group group

	mu   sync.Mutex // one reading at a time
	at   time.Time
	last reading
}

// reading is what the cgroup's files said.
type reading struct {
	limit  uint64 // 0: none
	usage  uint64
	cache  uint64 // of usage: pages of files, which the kernel takes back when it needs them
	kernel uint64 // of usage: sockets, and what else the kernel holds for this process
}

// openMemory keeps the files open: they are read when no descriptor is left.
func openMemory() *memory {
	m := &memory{group: findGroup()}
	m.reread()
	return m
}

func (m *memory) close() error { return m.group.close() }

// reread asks the kernel for everything.
func (m *memory) reread() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last, m.at = m.group.read(), time.Now()
}

// full is the error for a connection that there is no memory for.
func (m *memory) full() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.last.limit == 0 {
		return nil
	}
	if time.Since(m.at) >= fresh {
		m.last.usage, m.at = m.group.usage(), time.Now()
	}
	return m.last.short()
}

func (m *memory) short() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last.report()
}

func (m *memory) use() Use {
	m.mu.Lock()
	defer m.mu.Unlock()
	return Use{m.last.held(), m.last.limit}
}

func (m *memory) goal() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last.goal()
}

// held is what the kernel can't take back.
func (r reading) held() uint64 { return r.usage - min(r.usage, r.cache) }

func (r reading) kept() uint64 { return min(r.limit/share, mostKept) }

// report is the error for a cgroup whose connections use all memory that they may.
func (r reading) report() error {
	if r.limit == 0 || r.held() < r.limit-r.kept() {
		return nil
	}
	return fmt.Errorf("%d of %d MiB in use, and %d are kept free of connections", r.held()>>20, r.limit>>20, r.kept()>>20)
}

// short is report as an error of package shortage.
func (r reading) short() error {
	if err := r.report(); err != nil {
		return fmt.Errorf("memory: %w: raise the limit of the daemon's cgroup: %w", err, unix.ENOMEM)
	}
	return nil
}

// goal is how much the Go runtime may use before it collects more often than the
// size of the heap asks for; 0: no limit. It is never less than a quarter of the
// limit, so that the collector doesn't run without end.
func (r reading) goal() uint64 {
	rest := r.limit - r.limit/heapShare
	return max(rest-min(rest, r.kernel), r.limit/heapShare)
}
