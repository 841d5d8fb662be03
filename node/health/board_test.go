// SPDX-License-Identifier: Apache-2.0

package health

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestBoard: a problem stays until the same thing goes well, and one thing's
// success hides no other's failure.
func TestBoard(t *testing.T) {
	b := NewBoard()
	v4, v6 := errors.New("IPv4 is closed"), errors.New("IPv6 is closed")
	for _, step := range []struct {
		does string
		set  func() bool
		news bool
		left string
	}{
		{"begins", func() bool { return b.Set(Listener, "captured IPv4", v4) }, true, "listener captured IPv4"},
		{"goes on", func() bool { return b.Set(Listener, "captured IPv4", v4) }, false, "listener captured IPv4"},
		{"changes", func() bool { return b.Set(Listener, "captured IPv4", v6) }, true, "listener captured IPv4"},
		{"another begins", func() bool { return b.Set(Listener, "captured IPv6", v6) }, true, "listener captured IPv4, listener captured IPv6"},
		{"one ends", func() bool { return b.Set(Listener, "captured IPv4", nil) }, true, "listener captured IPv6"},
		{"ends again", func() bool { return b.Set(Listener, "captured IPv4", nil) }, false, "listener captured IPv6"},
		{"a family is replaced", func() bool {
			b.Replace(Grant, map[string]error{"web": v4, "db": nil})
			b.Replace(Listener, nil)
			return false
		}, false, "grant web"},
	} {
		if news := step.set(); news != step.news {
			t.Errorf("%s: news is %v", step.does, news)
		}
		var left []string
		for _, p := range b.Problems() {
			left = append(left, p.Key.String())
		}
		if got := strings.Join(left, ", "); got != step.left {
			t.Errorf("%s: left %q, want %q", step.does, got, step.left)
		}
	}
	if b.Get(Grant, "web") != v4 || b.Get(Routes, "") != nil {
		t.Error("Get doesn't return what was set")
	}
}

// TestShort: what couldn't be examined is as it was, and said apart.
func TestShort(t *testing.T) {
	b := NewBoard()
	gone, none := errors.New("detached"), fmt.Errorf("open: %w", syscall.EMFILE)
	b.Set(Routes, "", gone)
	b.Replace(Hook, map[string]error{"connect4": gone, "connect6": gone})
	if b.Set(Routes, "", none) || b.Set(Ports, "", none) {
		t.Error("a shortage is news of the thing")
	}
	b.Replace(Hook, map[string]error{"connect4": none, "bind4": none})
	if b.Get(Routes, "") != gone || b.Get(Ports, "") != nil || b.Get(Hook, "connect4") != gone || b.Get(Hook, "bind4") != nil || b.Get(Hook, "connect6") != nil {
		t.Errorf("problems %v", b.Problems())
	}
	if len(b.Short()) != 4 {
		t.Errorf("short %v", b.Short())
	}
	b.Replace(Hook, nil)
	if !b.Set(Routes, "", nil) || b.Set(Ports, "", nil) || len(b.Problems())+len(b.Short()) > 0 {
		t.Errorf("problems %v, short %v", b.Problems(), b.Short())
	}
}

func TestRepairs(t *testing.T) {
	b := NewBoard()
	start := time.Now().Add(-time.Nanosecond)
	b.Repaired("map ports", "emptied")
	b.Repaired("hook connect4", "detached")
	b.Repaired("map ports", "changed")
	var got []string
	for _, r := range b.Repairs(start) {
		got = append(got, fmt.Sprintf("%s %s %d", r.Object, r.Found, r.Count))
	}
	if want := "hook connect4 detached 1, map ports changed 2"; strings.Join(got, ", ") != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if late := b.Repairs(time.Now()); len(late) > 0 {
		t.Errorf("old repairs are shown: %v", late)
	}
}
