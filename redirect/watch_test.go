// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
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
	shell(t, "nsenter --net=/proc/"+itoa(os.Getpid())+"/fd/"+itoa(int(e.file.Fd()))+" "+command)
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

// TestWatchRoutes: the loss of a route or a rule is told, and made good.
func TestWatchRoutes(t *testing.T) {
	enter(t)
	plan := NewPlan(Config{Range4: netip.MustParsePrefix("240.64.0.0/12"), Range6: netip.MustParsePrefix("fd7a:ac17::/32"), IPv6: true, TPROXY: true})
	restore := func(when string, want bool) {
		t.Helper()
		missing, err := RestoreRoutes(plan)
		must(t, err)
		if missing != want {
			t.Errorf("%s: missing: %v, want %v", when, missing, want)
		}
	}
	restore("at first", true)
	ns, err := os.Open("/proc/thread-self/ns/net")
	must(t, err)
	defer ns.Close()
	lost, ended := make(chan struct{}, 1), make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		runtime.LockOSThread() // never unlocked: the thread dies
		ended <- errors.Join(unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET), WatchRoutes(ctx, lost))
	}()
	expect(t, lost, "at the start")
	for _, line := range []string{
		"ip route flush table local proto 116", "ip -6 route flush table local proto 116", "ip route flush table 11600",
		"ip rule del priority 1160", "ip -6 rule del priority 1160",
	} {
		shell(t, line)
		expect(t, lost, "after "+line)
		restore(line, true)
	}
	shell(t, "ip route add blackhole 198.51.100.0/24; ip route del blackhole 198.51.100.0/24")
	restore("after what isn't ours", false)
	cancel()
	must(t, <-ended)
}
