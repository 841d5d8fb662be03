// SPDX-License-Identifier: Apache-2.0

package api

import (
	"net/netip"
	"time"
)

// FlowRecord is one connection that this node refused, carries or carried, or several
// that are alike: refusals of the kernel, and connections from program to program.
type FlowRecord struct {
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
	Reason      Reason         `json:"reason,omitempty"` // of the end or the refusal
	Sent        uint64         `json:"sent"`             // bytes, source to destination
	Received    uint64         `json:"received"`
	Duration    time.Duration  `json:"duration_ns"` // of several connections: in which they ended or were refused
}

// Directions besides those of the proxy.
const (
	DirectionDirect = "direct" // from program to program, within the node
	DirectionHook   = "hook"   // refused, let in or cut by the kernel programs, which see no bytes
)

// FlowList is the connections that the node remembers, oldest first, then the live ones.
type FlowList struct {
	FlowTotals
	Flows []FlowRecord `json:"flows"`
	Last  uint64       `json:"last"` // highest Seq so far; the next request's after
}

// FlowTotals is everything since the daemon's start, but what is live.
type FlowTotals struct {
	Totals  []FlowTotal       `json:"totals"`
	Dropped uint64            `json:"dropped"`        // connections of older records, which the node no longer holds
	Lost    map[Reason]uint64 `json:"lost,omitempty"` // what the kernel counted and couldn't report
}

// FlowTotal sums the connections of one direction that ended for one reason.
type FlowTotal struct {
	Direction string `json:"direction"`
	Reason    Reason `json:"reason"`
	Count     uint64 `json:"count"`
	Sent      uint64 `json:"sent"`
	Received  uint64 `json:"received"`
}
