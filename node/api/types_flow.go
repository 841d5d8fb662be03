// SPDX-License-Identifier: Apache-2.0

package api

import (
	"net/netip"
	"time"
)

// FlowRecord is one connection that this node refused, carries or carried.
// Allowed connections within the node bypass the daemon and have no record.
type FlowRecord struct {
	Seq         uint64         `json:"seq"`    // grows with every record; 0: live
	Time        time.Time      `json:"time"`   // of the start, or of the refusal
	Source      Name           `json:"source"` // "": no service
	Destination Name           `json:"destination"`
	For         Name           `json:"for,omitempty"`  // the service that was called, where Destination stands in for it
	Node        Name           `json:"node,omitempty"` // the other node
	Direction   string         `json:"direction"`      // out, in, local, or hook: refused in the kernel
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
	Duration    time.Duration  `json:"duration_ns"`
}

// FlowList is the connections that the node remembers, oldest first, then the live ones.
type FlowList struct {
	Flows []FlowRecord `json:"flows"`
	Last  uint64       `json:"last"` // highest Seq so far; the next request's after
}
