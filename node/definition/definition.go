// SPDX-License-Identifier: Apache-2.0

// Package definition reads service definitions: files in Consul's shape, HCL or
// JSON, in one folder. A file counts as a whole or not at all: while it has an
// error, its last good version stays in force. The package must not decide who
// may run or call what, nor examine the host beyond its folder.
package definition

import (
	"net/netip"

	"tacit/identity"
	"tacit/node/definition/external"
)

// Definition is one instance of a service on this node, or an ingress.
type Definition struct {
	Name       identity.Name     `json:"name"`
	ID         string            `json:"id"`                // unique on the node; the name by default
	Port       uint16            `json:"port,omitempty"`    // 0: it only calls others
	Address    string            `json:"address,omitempty"` // an IP; "": the node's
	Tags       []string          `json:"tags,omitempty"`
	Meta       map[string]string `json:"meta,omitempty"`
	Weight     int               `json:"weight,omitempty"`  // share of connections among instances, 1..65535
	Balance    string            `json:"balance,omitempty"` // least, round_robin, weighted, hash; "": least
	Retry      string            `json:"retry,omitempty"`   // unanswered, connect, never; "": unanswered
	Workload   Workload          `json:"workload,omitzero"`
	Permissive bool              `json:"permissive,omitempty"` // mode = "permissive": plain connections to the port are let in
	// ClientAddress is what the program sees as the address of its callers.
	ClientAddress ClientAddress   `json:"client_address,omitempty"`
	Upstreams     []Upstream      `json:"upstreams,omitempty"`
	Outside       *external.Place `json:"outside,omitempty"` // nil: a program of this node
	Checks        []HealthCheck   `json:"checks,omitempty"`
	Ingress       *Ingress        `json:"ingress,omitempty"` // nil: an instance of a service
	Ignored       []string        `json:"ignored,omitempty"` // settings of the file that tacit ignores, one line each, with file:line
	Source        string          `json:"source,omitempty"`  // file:line
	Settings      []Setting       `json:"-"`                 // all of the file but the checks
}

// LocalPort is the port that a program of this node listens on; 0: none does.
func (d Definition) LocalPort() uint16 {
	if d.Outside != nil {
		return 0
	}
	return d.Port
}

// Setting is one setting of a service file, as it stands there.
type Setting struct {
	Key, Value string
	Source     string // file:line
}

// Workload says which processes are the instance. At most one field is set;
// none means `tacit run NAME` and the unit NAME.service.
type Workload struct {
	Cgroup      string  `json:"cgroup,omitempty"`
	SystemdUnit string  `json:"systemd_unit,omitempty"`
	UID         *uint32 `json:"uid,omitempty"`
	NetNS       string  `json:"netns,omitempty"`
	Container   string  `json:"container,omitempty"`
	Interface   string  `json:"interface,omitempty"`
}

// Upstream is an explicit local address at which the workload reaches
// Destination. Bind is a loopback address; nothing listens there.
type Upstream struct {
	Destination identity.Name  `json:"destination"`
	Bind        netip.AddrPort `json:"bind"`
}
