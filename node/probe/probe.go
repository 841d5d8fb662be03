// SPDX-License-Identifier: Apache-2.0

// Package probe tries the way that programs go: a process in a cgroup like any
// other's looks names up and connects, and says what happened to it. It must
// not know the mesh: where to and what must come of it is its caller's.
package probe

import (
	"net/netip"
	"time"
)

// Kind is what a task does.
type Kind string

// The kinds. Each but Names and Captured wants ECONNREFUSED, at once.
const (
	Connect  Kind = "connect"  // a TCP connection
	Send     Kind = "send"     // a datagram from a socket that isn't connected
	Names    Kind = "names"    // a name looked up, over UDP both ways and TCP
	Captured Kind = "captured" // a TCP connection by which Want arrives
)

// Task is one thing to try.
type Task struct {
	Name   string         `json:"name"`
	Kind   Kind           `json:"kind"`
	To     netip.AddrPort `json:"to"`
	Mapped bool           `json:"mapped,omitempty"` // by an IPv6 socket, as ::ffff:a.b.c.d
	Ask    string         `json:"ask,omitempty"`    // the name, with a final dot
	Want   string         `json:"want,omitempty"`   // Names: the address; Captured: the bytes
}

// Result is what came of a task; Err is "" where it is what must come.
type Result struct {
	Name string `json:"name"`
	Err  string `json:"err,omitempty"`
}

// Patience is how long one step of a task may take: all of it happens on this
// host, in microseconds.
const Patience = time.Second
