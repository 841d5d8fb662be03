// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"context"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"
)

func TestLocalAddrsAndWatch(t *testing.T) {
	enter(t)
	shell(t, "ip link add d0 type veth peer name d1; ip link set d0 up; ip addr add 10.7.0.1/24 dev d0; ip addr add 10.7.0.9/32 dev lo; ip -6 addr add fd00:7::1/64 dev d0 nodad")
	wants := func(when string, want ...string) {
		t.Helper()
		got, err := LocalAddrs()
		must(t, err)
		got = slices.DeleteFunc(got, netip.Addr.IsLinkLocalUnicast)
		var addrs []netip.Addr
		for _, w := range want {
			addrs = append(addrs, netip.MustParseAddr(w))
		}
		if !slices.Equal(got, addrs) {
			t.Errorf("%s: %s, want %s", when, got, addrs)
		}
	}
	wants("at first", "10.7.0.1", "10.7.0.9", "fd00:7::1")

	before := descriptors(t)
	there := newElsewhere(t)
	changed, ended := make(chan struct{}, 1), make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { ended <- there.do(func() error { return WatchAddrs(ctx, changed) }) }()
	expect(t, changed, "at the start")
	// The watcher's own namespace is busy with it, so its changes come from here.
	shellIn(t, there, "ip addr add 10.8.0.1/32 dev lo")
	expect(t, changed, "after adding")
	shellIn(t, there, "ip addr del 10.8.0.1/32 dev lo")
	expect(t, changed, "after removing")
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("watch ended with %v", err)
	}
	within(t, "the subscription's socket to close", func() bool { return descriptors(t) <= before+1 }) // 1: the namespace
}

func expect(t *testing.T, changed <-chan struct{}, when string) {
	t.Helper()
	select {
	case <-changed:
	case <-time.After(patience):
		t.Fatalf("nothing was said %s", when)
	}
}

func shellIn(t *testing.T, e *elsewhere, command string) {
	t.Helper()
	shell(t, "nsenter --net=/proc/"+strconv.Itoa(os.Getpid())+"/fd/"+strconv.Itoa(int(e.file.Fd()))+" "+command)
}

func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(list)
}

// within polls until ok, or fails.
func within(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
