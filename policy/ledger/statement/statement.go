// SPDX-License-Identifier: Apache-2.0

// Package statement holds what signed records say: the bodies of all kinds whose
// meaning the mesh defines itself, and the checks of their form. It must not decide
// who may say it: package ledger does.
package statement

import (
	"tacit/identity"
)

// Root is the certificate authority's root.
type Root struct {
	Certificate []byte `json:"certificate"` // DER
}

// Authority makes a node an authority under one intermediate certificate.
type Authority struct {
	Node        identity.Name `json:"node"`
	Certificate []byte        `json:"certificate"` // DER
}

// Operator makes a key an operator's. Node is the node that holds the key.
type Operator struct {
	Node   identity.Name `json:"node"`
	Public []byte        `json:"public"` // SPKI, DER
}

// Member binds a node's name to its long-term key.
type Member struct {
	Node   identity.Name `json:"node"`
	Public []byte        `json:"public"` // SPKI, DER
}

// Revocation revokes a key of any kind.
type Revocation struct {
	Public identity.KeyID `json:"public"`
	Node   identity.Name  `json:"node,omitempty"` // for people
	Reason string         `json:"reason,omitempty"`
}

// Grant allows a node to run a service, or an ingress. Outside is what its
// instances outside of the mesh may stand for everywhere: hosts, and addresses with a
// port or without.
type Grant struct {
	Node    identity.Name `json:"node"`
	Service identity.Name `json:"service"`
	Outside []string      `json:"outside,omitempty"`
}

// maxAddresses is the maximum length of Node.Also.
const maxAddresses = 32

// Node is the address and ports of a node.
type Node struct {
	Node       identity.Name `json:"node"`
	Address    string        `json:"address"`        // IP, in netip's form
	Also       []string      `json:"also,omitempty"` // more addresses; the node's lane port is open there, too
	LanePort   uint16        `json:"lane_port"`
	GossipPort uint16        `json:"gossip_port"`
	Version    string        `json:"version,omitempty"`
	Zone       string        `json:"zone,omitempty"` // instances in the caller's zone are preferred
}

// Instance is one instance of a service on a node, or an ingress.
type Instance struct {
	Node       identity.Name     `json:"node"`
	Service    identity.Name     `json:"service"`
	ID         string            `json:"id"`
	Port       uint16            `json:"port,omitempty"`    // 0: the program only calls others
	Address    string            `json:"address,omitempty"` // IP; "" is the node's
	Tags       []string          `json:"tags,omitempty"`
	Meta       map[string]string `json:"meta,omitempty"`
	Weight     int               `json:"weight,omitempty"`
	Permissive bool              `json:"permissive,omitempty"`
	Place      string            `json:"place,omitempty"`   // network namespace in which it listens, for people; "": its node's
	Down       string            `json:"down,omitempty"`    // why it can't serve now: DownListener, DownAddress, "check NAME", or the reason for which an ingress is closed; "": it can
	Balance    string            `json:"balance,omitempty"` // how callers choose among the instances; unknown ones count as ""
	Retry      string            `json:"retry,omitempty"`   // when callers try another instance; likewise
	Outside    *Outside          `json:"outside,omitempty"` // nil: a program on the node
	Ingress    *Ingress          `json:"ingress,omitempty"` // set if and only if Service is an ingress
}

// Ingress says where a node takes plain connections, and for which service.
type Ingress struct {
	Listen  string        `json:"listen"` // address and port
	Service identity.Name `json:"service"`
	Port    uint16        `json:"port,omitempty"` // of the service; 0: its only one
}

// Floor says that all instances of a node are gone which it signed before the
// epoch of this record.
type Floor struct {
	Node identity.Name `json:"node"`
}

// DownListener: no socket of the workload listens on the instance's port.
const DownListener = "listener"
