// SPDX-License-Identifier: Apache-2.0

// Package flow is what a daemon tells of connections, and which of them somebody asks
// for. It must not collect any: the journal and the proxy do.
package flow

import (
	"net/netip"
	"time"

	"tacit/identity"
	"tacit/policy"
)

// Name and Reason are the types of identity and policy.
type (
	Name   = identity.Name
	Reason = policy.Reason
)

// Record is one connection that this node refused, carries or carried, or several
// that are alike: refusals of the kernel, and connections from program to program.
type Record struct {
	Seq         uint64         `json:"seq"`    // grows with every record; 0: live
	Count       uint64         `json:"count"`  // connections (of refused UDP, datagrams) that it stands for
	Time        time.Time      `json:"time"`   // of the start, or of the first refusal
	Source      Name           `json:"source"` // "": no service
	Destination Name           `json:"destination"`
	For         Name           `json:"for,omitempty"`  // the service that was called, where Destination stands in for it
	Node        Name           `json:"node,omitempty"` // the other node
	Direction   string         `json:"direction"`      // out, in, local, direct, or hook
	Client      netip.AddrPort `json:"client,omitzero"`
	DialledFrom netip.AddrPort `json:"dialled_from,omitzero"` // the peer address that the called program on this node sees
	Target      netip.AddrPort `json:"target,omitzero"`       // the dialled address, of refusals in the kernel
	Port        uint16         `json:"port,omitempty"`
	Program     string         `json:"program,omitempty"` // of refusals in the kernel
	PID         uint32         `json:"pid,omitempty"`
	Live        bool           `json:"live"`
	Verdict     string         `json:"verdict"`          // Allowed, Refused or NoVerdict
	Reason      Reason         `json:"reason,omitempty"` // of the end or the refusal
	Sent        uint64         `json:"sent"`             // bytes, source to destination
	Received    uint64         `json:"received"`
	Duration    time.Duration  `json:"duration_ns"` // of several connections: in which they ended or were refused
}

// Directions besides those of the proxy.
const (
	Direct = "direct" // from program to program, within the node
	Hook   = "hook"   // refused, let in or cut by the kernel programs, which see no bytes
)

// List is those of the connections that the node remembers which were asked for, oldest
// first, then the live ones.
type List struct {
	Sums
	Flows  []Record `json:"flows"`
	Last   uint64   `json:"last"`             // highest Seq so far; the next request's after
	Missed uint64   `json:"missed,omitempty"` // records after the asked number that the node no longer holds, of any kind
}

// Sums are of everything, whatever was asked for, since the daemon's start, but what is live.
type Sums struct {
	Totals  []Total           `json:"totals"`
	Dropped uint64            `json:"dropped"`        // connections of older records, which the node no longer holds
	Lost    map[Reason]uint64 `json:"lost,omitempty"` // what the kernel counted and couldn't report
}

// Total sums the connections of one direction that ended for one reason.
type Total struct {
	Direction string `json:"direction"`
	Reason    Reason `json:"reason"`
	Count     uint64 `json:"count"`
	Sent      uint64 `json:"sent"`
	Received  uint64 `json:"received"`
}
