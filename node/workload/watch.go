// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Watcher waits for cgroups that are made, removed or given to another owner
// in the directories that it follows.
//
// It reads inotify(7) itself: fsnotify asks for every write to a cgroup's
// files as well, and would wake an idle host.
type Watcher struct {
	events *os.File
	fd     int // of events; don't use it once closed

	mu     sync.Mutex
	closed bool
	watch  map[Cgroup]int // watch descriptors
}

const cgroupEvents = unix.IN_CREATE | unix.IN_DELETE | unix.IN_ATTRIB

// NewWatcher returns a Watcher that follows nothing yet. Run closes it.
func NewWatcher() (*Watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch cgroups (fs.inotify.max_user_instances?): %w", err)
	}
	return &Watcher{events: os.NewFile(uintptr(fd), "inotify"), fd: fd, watch: map[Cgroup]int{}}, nil
}

// Run calls changed after each event until ctx ends, then closes the Watcher.
// The event may be about any directory that was followed, and none is lost:
// where the kernel has dropped some, changed is called too.
func (w *Watcher) Run(ctx context.Context, changed func()) error {
	defer w.close()
	defer context.AfterFunc(ctx, w.close)() // ends the read
	buffer := make([]byte, 16<<10)          // many events at once
	for {
		n, err := w.events.Read(buffer)
		if ctx.Err() != nil || errors.Is(err, os.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("watch cgroups: %w", err)
		}
		if relevant(buffer[:n]) {
			changed()
		}
	}
}

func (w *Watcher) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	_ = w.events.Close()
}

// relevant reports whether one of the events is more than the end of a watch
// (struct inotify_event: wd, mask, cookie, len, then len bytes of name).
func relevant(events []byte) bool {
	for len(events) >= unix.SizeofInotifyEvent {
		mask, name := binary.NativeEndian.Uint32(events[4:]), binary.NativeEndian.Uint32(events[12:])
		if mask&(cgroupEvents|unix.IN_Q_OVERFLOW) != 0 {
			return true
		}
		events = events[min(len(events), unix.SizeofInotifyEvent+int(name)):]
	}
	return false
}

// Follow replaces the directories that are followed. It reports whether some
// weren't followed before: what was made in those meanwhile has no event, so
// scan again. The error says that some can't be followed.
func (w *Watcher) Follow(dirs []Cgroup) (added bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return false, os.ErrClosed
	}
	now, used := make(map[Cgroup]int, len(dirs)), make(map[int]bool, len(dirs))
	for _, dir := range dirs {
		wd, known := w.watch[dir]
		if !known {
			var bad error
			wd, bad = unix.InotifyAddWatch(w.fd, dir.Path, cgroupEvents|unix.IN_ONLYDIR)
			if errors.Is(bad, unix.ENOENT) {
				continue // removed meanwhile
			}
			if bad != nil {
				err = fmt.Errorf("watch cgroup %s (fs.inotify.max_user_watches?): %w", dir.Path, bad)
				continue
			}
			added = true
		}
		now[dir], used[wd] = wd, true
	}
	for _, wd := range w.watch {
		if !used[wd] { // two directories share one where a cgroup was replaced just before it was followed
			_, _ = unix.InotifyRmWatch(w.fd, uint32(wd)) // a removed directory has taken its watch along
		}
	}
	w.watch = now
	return added, err
}
