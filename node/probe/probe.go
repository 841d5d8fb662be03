// SPDX-License-Identifier: Apache-2.0

// Package probe tests the mesh as a program uses it: a process in a cgroup of its
// own looks names up, connects, and reports the results. It must not know the mesh:
// its caller gives addresses and expected results.
package probe

import (
	"net/netip"
	"time"
)

// Kind is what a task tries.
type Kind string

// The kinds. Connect and Send expect ECONNREFUSED at once.
const (
	Connect  Kind = "connect"  // a TCP connection
	Send     Kind = "send"     // a datagram from an unconnected socket
	Names    Kind = "names"    // a DNS query over unconnected UDP, connected UDP, and TCP
	Captured Kind = "captured" // a TCP connection over which Want arrives
)

// Task is one thing to try.
type Task struct {
	Name   string         `json:"name"`
	Kind   Kind           `json:"kind"`
	To     netip.AddrPort `json:"to"`
	Mapped bool           `json:"mapped,omitempty"` // from an IPv6 socket, as ::ffff:a.b.c.d
	Ask    string         `json:"ask,omitempty"`    // the name, with a final dot
	Want   string         `json:"want,omitempty"`   // Names: the expected address; Captured: the expected bytes
}

// Result is the outcome of a task; Err is "" if it is the expected one.
type Result struct {
	Name string `json:"name"`
	Err  string `json:"err,omitempty"`
}

// Patience is the timeout of one step of a task. Steps stay on this host and take
// microseconds.
const Patience = time.Second
