// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	maxResolvConf = 1 << 20               // bytes read
	maxLinks      = 16                    // symbolic links from a resolv.conf to its file
	settle        = 50 * time.Millisecond // after the last event of a burst
)

// Resolvers reads a resolv.conf (resolv.conf(5)): the name servers in order, without
// duplicates, or 127.0.0.1 if there is none; and the search suffixes in lower case
// without leading or trailing dots. Of several search or domain lines the last
// counts. Lines that can't be parsed are ignored, as libc does.
func Resolvers(path string) (addrs []netip.Addr, search []string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("name servers of the host: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(io.LimitReader(f, maxResolvConf))
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) < 2 {
			continue
		}
		switch words[0] {
		case "nameserver":
			if a, err := netip.ParseAddr(words[1]); err == nil && !slices.Contains(addrs, a) {
				addrs = append(addrs, a)
			}
		case "search":
			search = suffixes(words[1:])
		case "domain":
			search = suffixes(words[1:2])
		}
	}
	if err := lines.Err(); err != nil {
		return nil, nil, fmt.Errorf("name servers of the host: %s: %w", path, err)
	}
	if len(addrs) == 0 {
		addrs = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	}
	return addrs, search, nil
}

func suffixes(words []string) []string {
	var out []string
	for _, w := range words {
		if labels := splitName(w); labels != nil {
			out = append(out, strings.Join(labels, "."))
		}
	}
	return out
}

// Watch calls changed once as soon as it watches path, and then each time that the
// content of path has changed, until ctx ends: the file was written, replaced by
// rename, or a symbolic link leads elsewhere. The file need not exist, its folder
// must.
func Watch(ctx context.Context, path string, changed func()) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watching %s: %w", path, err)
	}
	defer w.Close()
	if err := w.Add(filepath.Dir(path)); err != nil {
		return fmt.Errorf("watching %s: %w", path, err)
	}
	follow(w, path)
	last := content(path)
	changed()
	timer := time.NewTimer(settle)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err, ok := <-w.Errors:
			if !ok {
				return errors.New("watching " + path + ": the watch ended")
			}
			if !errors.Is(err, fsnotify.ErrEventOverflow) {
				return fmt.Errorf("watching %s: %w", path, err)
			}
			timer.Reset(settle)
		case <-w.Events:
			timer.Reset(settle)
		case <-timer.C:
			follow(w, path)
			if now := content(path); now != last {
				last = now
				changed()
			}
		}
	}
}

// follow watches the folder of every symbolic link between path and the file.
func follow(w *fsnotify.Watcher, path string) {
	for range maxLinks {
		_ = w.Add(filepath.Dir(path)) // a missing folder is added when the link changes
		to, err := os.Readlink(path)
		if err != nil {
			return
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(path), to)
		}
		path = to
	}
}

// content returns the file's text, or the error as text.
func content(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return "\x00" + err.Error()
	}
	defer f.Close()
	b, _ := io.ReadAll(io.LimitReader(f, maxResolvConf))
	return string(b)
}
