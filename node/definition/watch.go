// SPDX-License-Identifier: Apache-2.0

package definition

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	debounce = 200 * time.Millisecond // an editor's save is several events
	lookAt   = 5 * time.Second        // for what events don't tell: a new folder, a link's target
)

// Watch calls changed after the folder changed since the last Reload, from one
// goroutine, until ctx ends; changed is expected to Reload. Where events can't
// be had, it only looks every five seconds.
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

// arm asks for events of the folder, again in case it is another one by now.
func (f *Folder) arm(w *fsnotify.Watcher) {
	if w != nil {
		_ = w.Add(f.dir) // may not exist yet
	}
}

func (f *Folder) changed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return fingerprint(f.dir) != f.seen
}

// fingerprint changes when a file comes, goes, or is written.
func fingerprint(dir string) string {
	files, err := list(dir)
	out := fmt.Sprint(err)
	for _, file := range files {
		if st, err := os.Stat(file); err == nil {
			out += fmt.Sprintf("\n%s %d %d %v", file, st.Size(), st.ModTime().UnixNano(), st.Mode())
		} else {
			out += "\n" + file + " " + err.Error()
		}
	}
	return out
}
