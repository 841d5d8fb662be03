// SPDX-License-Identifier: Apache-2.0

package folder

import (
	"context"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	debounce = 200 * time.Millisecond // an editor's save is several events
	lookAt   = 5 * time.Second        // for changes without an event: a new folder, a link's target
)

// Watch calls changed, which is expected to Reload, each time the folder has
// changed since the last Reload, from one goroutine, until ctx ends. Without
// inotify it compares the folder every five seconds instead.
func (f *Folder) Watch(ctx context.Context, changed func()) error {
	var events <-chan fsnotify.Event
	var errs <-chan error
	w, err := fsnotify.NewWatcher()
	if err == nil {
		defer w.Close()
		events, errs = w.Events, w.Errors
	}
	tick := time.NewTicker(lookAt)
	defer tick.Stop()
	settled := time.NewTimer(debounce)
	settled.Stop()
	f.arm(w)
	if f.changed() {
		settled.Reset(debounce)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-events:
			settled.Reset(debounce)
		case <-errs: // events were lost
			settled.Reset(debounce)
		case <-tick.C:
			f.arm(w)
			if f.changed() {
				settled.Reset(debounce)
			}
		case <-settled.C:
			changed()
		}
	}
}

// arm asks for events of the folder, again because it may have been replaced.
func (f *Folder) arm(w *fsnotify.Watcher) {
	if w != nil {
		_ = w.Add(f.dir) // may not exist yet
	}
}

func (f *Folder) changed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !examine(f.dir).same(f.seen)
}
