// SPDX-License-Identifier: Apache-2.0

package api

import (
	"net/netip"
	"time"
)

// FlowRecord is one connection that this node refused, carries or carried.
// Same-node connections that are allowed go from program to program without
// the daemon: they have no record.
type FlowRecord struct {
	Seq         uint64         `json:"seq"`    // grows with every record; 0 for a live one
	Time        time.Time      `json:"time"`   // when it began, or was refused
	Source      Name           `json:"source"` // "": nobody
	Destination Name           `json:"destination"`
	Node        Name           `json:"node,omitempty"` // the other node
	Direction   string         `json:"direction"`      // out, in, local, or hook: refused in the kernel
	Client      netip.AddrPort `json:"client,omitzero"`
	DialledFrom netip.AddrPort `json:"dialled_from,omitzero"` // what a program of this node sees as its peer: in its own log, this flow's line
	Target      netip.AddrPort `json:"target,omitzero"`       // as dialled, for refusals in the kernel
	Port        uint16         `json:"port,omitempty"`
	Program     string         `json:"program,omitempty"` // of refusals in the kernel
	PID         uint32         `json:"pid,omitempty"`
	Live        bool           `json:"live"`
	Reason      Reason         `json:"reason,omitempty"` // why it ended or was refused
	Sent        uint64         `json:"sent"`             // bytes, source to destination
	Received    uint64         `json:"received"`
	Duration    time.Duration  `json:"duration_ns"`
}

// FlowList is the node's memory of connections, oldest first, and the live ones.
type FlowList struct {
	Flows []FlowRecord `json:"flows"`
	Last  uint64       `json:"last"` // highest Seq given so far; ask for what comes after it
}
