// SPDX-License-Identifier: Apache-2.0

package testhost

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// Do runs f on a thread inside the host's network namespace. Sockets that f
// makes itself belong there for good; goroutines that f starts don't. The
// sockets' cgroup is the test's own, so they belong to no workload: use
// Command for a program that does. A thread that can't go back ends.
func (h *Host) Do(f func() error) error { return inside(h.Namespace(), f) }

func inside(namespace string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		back, err := enter(namespace)
		if err != nil {
			done <- err // still locked: the thread dies with this goroutine
			return
		}
		err = f()
		if back() == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// enter moves the calling thread into a namespace; back returns it.
func enter(path string) (back func() error, err error) {
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	ns, err := os.Open(path)
	if err != nil {
		home.Close()
		return nil, err
	}
	defer ns.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		home.Close()
		return nil, fmt.Errorf("entering %s: %w", path, err)
	}
	return func() error {
		defer home.Close()
		return unix.Setns(int(home.Fd()), unix.CLONE_NEWNET)
	}, nil
}

// Listen listens on the host, outside every workload. The address must be a
// literal.
func (h *Host) Listen(network, address string) (ln net.Listener, err error) {
	err = h.Do(func() error {
		ln, err = net.Listen(network, address)
		return err
	})
	return ln, err
}

// ListenPacket is Listen for datagrams.
func (h *Host) ListenPacket(network, address string) (pc net.PacketConn, err error) {
	err = h.Do(func() error {
		pc, err = net.ListenPacket(network, address)
		return err
	})
	return pc, err
}

// Dial connects from the host, outside every workload, within 5 s. The address
// must be a literal: names would be looked up on another thread.
func (h *Host) Dial(network, address string) (conn net.Conn, err error) {
	err = h.Do(func() error {
		conn, err = net.DialTimeout(network, address, 5*time.Second)
		return err
	})
	return conn, err
}
