// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"context"
	"errors"
	"net"
	"syscall"

	"tacit/bpf"
	"tacit/node/health"
	"tacit/redirect/listen"
)

// capturedListener is where captured connections of one address family arrive.
type capturedListener = listen.Reopening

// family names an address family in status and log.
func family(v6 bool) string {
	if v6 {
		return "IPv6"
	}
	return "IPv4"
}

// Captured are the listeners for captured connections: IPv4, and IPv6 where
// this host has it.
func (d *Datapath) Captured() []*listen.Reopening {
	var out []*listen.Reopening
	for _, l := range d.captured {
		if l != nil {
			out = append(out, l)
		}
	}
	return out
}

// reopenWhenClosed makes the listeners for captured connections open themselves
// again when others close them (ss -K).
func (d *Datapath) reopenWhenClosed() {
	for i, ln := range []*net.TCPListener{d.listeners.TCP4, d.listeners.TCP6} {
		if ln == nil {
			continue
		}
		v6 := i == 1
		name := "captured connections, " + family(v6)
		d.captured[i] = listen.NewReopening(ln, func() (net.Listener, error) { return d.reopen(v6) }, func(err error) {
			d.conf.Health.Set(health.Listener, name, err)
			if err == nil {
				d.conf.Log.Warn("a listener was closed by others; it is open again", "listener", name)
				d.conf.Health.Repaired(name, "closed by others")
			}
		})
	}
}

// reopen opens a listener in place of one that others have closed, or whose
// cgroup is gone, and tells programs and rules where it is.
func (d *Datapath) reopen(v6 bool) (net.Listener, error) {
	fresh, err := listen.Captured(context.Background(), v6)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	if v6 {
		d.listeners.TCP6 = fresh
	} else {
		d.listeners.TCP4 = fresh
	}
	d.mu.Unlock()
	return fresh, d.settle()
}

// settle hands the present listeners to programs and rules: first the
// programs, which assign connections to them, then the rules that steer there,
// and last what tells the kernel that the daemon is alive.
func (d *Datapath) settle() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return errors.Join(d.tellHooks(), d.restate(), d.serving())
}

// tellHooks hands the listeners to the program that assigns captured
// connections. The caller holds mu.
func (d *Datapath) tellHooks() error {
	var out bpf.Listeners
	var errs []error
	socket := func(from syscall.Conn, port uint16) bpf.Socket {
		fd, err := fdOf(from)
		errs = append(errs, err)
		return bpf.Socket{FD: fd, Port: port}
	}
	for i, ln := range []*net.TCPListener{d.listeners.TCP4, d.listeners.TCP6} {
		if ln != nil {
			out.Proxy[i] = socket(ln, portOf(ln))
		}
	}
	for i, ln := range d.resolvers.direct {
		if ln != nil {
			out.NamesUDP[i] = socket(ln.UDP, ln.Port())
			out.NamesTCP[i] = socket(ln.TCP, ln.Port())
		}
	}
	return errors.Join(append(errs, d.conf.Hooks.SetListeners(out))...)
}

// serving tells the kernel which listeners stand for the daemon's life: when
// they are closed, the daemon is dead, and the programs refuse. The caller
// holds mu.
func (d *Datapath) serving() error {
	var fds []int
	for _, ln := range []*net.TCPListener{d.listeners.TCP4, d.listeners.TCP6, d.resolvers.direct[0].TCP} {
		if ln == nil {
			continue
		}
		fd, err := fdOf(ln)
		if err != nil {
			return err
		}
		fds = append(fds, fd)
	}
	return d.conf.Hooks.SetServing(fds...)
}

func fdOf(ln syscall.Conn) (int, error) {
	raw, err := ln.SyscallConn()
	if err != nil {
		return -1, err
	}
	out := -1
	err = raw.Control(func(fd uintptr) { out = int(fd) })
	return out, err
}

func portOf(ln net.Listener) uint16 { return uint16(ln.Addr().(*net.TCPAddr).Port) }
