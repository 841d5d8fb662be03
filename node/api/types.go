// SPDX-License-Identifier: Apache-2.0

// Package api is how the CLI and the daemon talk: the types, the Backend that
// the daemon implements, the server on a unix socket, and the client. It must
// not decide anything: it checks shapes and who is calling, and hands over.
package api

import (
	"net/netip"
	"time"

	"tacit/identity"
	"tacit/policy"
)

// Name, Reason and Action are the rooms' own types, so that the CLI needs no
// other import than this package. The server folds and checks every name
// before the Backend sees it.
type (
	Name   = identity.Name
	Reason = policy.Reason
	Action = policy.Action
)

// Status is the health of the node that answers.
type Status struct {
	Node          Name              `json:"node"`
	TrustDomain   string            `json:"trust_domain"`
	Version       string            `json:"version"`
	Healthy       bool              `json:"healthy"`          // every check is OK
	Unheld        []string          `json:"unheld,omitempty"` // guarantees that this node's way of capture can't hold
	Checks        []Check           `json:"checks"`
	Revision      uint64            `json:"revision"` // grows with every policy change in the kernel maps
	Digest        string            `json:"digest"`   // of the policy that the kernel maps hold
	Counters      map[Reason]uint64 `json:"counters,omitempty"`
	UptimeSeconds float64           `json:"uptime_seconds"`
	Certificates  []Certificate     `json:"certificates,omitempty"`
	Lanes         []Lane            `json:"lanes,omitempty"`
}

// ConfirmRequest asks to make permanent what a start with --confirm changed.
type ConfirmRequest struct{}

// ConfirmResult says what stays. Confirmed is false when nothing waited for it.
type ConfirmResult struct {
	Confirmed bool     `json:"confirmed"`
	Permanent []string `json:"permanent,omitempty"` // one line each
}

// Lane is one live connection between two nodes, with what was proven on it.
type Lane struct {
	Peer       string   `json:"peer"`      // SPIFFE ID of the other node
	Direction  string   `json:"direction"` // out or in
	Proven     []string `json:"proven"`    // SPIFFE IDs of the services proven on it
	AgeSeconds float64  `json:"age_seconds"`
	Streams    int      `json:"streams"` // carried so far
}

// Check is one probe through the real path, or one thing that went wrong.
type Check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Reason string `json:"reason,omitempty"` // what was found; may be set when OK, too
	Hint   string `json:"hint,omitempty"`   // what to do
}

// Certificate is one that this node uses now.
type Certificate struct {
	ID        string    `json:"id"` // SPIFFE ID
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	RenewAt   time.Time `json:"renew_at,omitzero"`
}

// Node is one member of the mesh as the answering node sees it.
type Node struct {
	Name         Name   `json:"name"`
	ID           string `json:"id"`      // SPIFFE ID
	Address      string `json:"address"` // from the node's signed record
	Alive        bool   `json:"alive"`
	Local        bool   `json:"local"` // the node that answers
	Authority    bool   `json:"authority"`
	Operator     bool   `json:"operator"` // holds an operator key
	Revoked      bool   `json:"revoked,omitempty"`
	Grants       []Name `json:"grants"`
	PolicyDigest string `json:"policy_digest"` // of the policy in its kernel maps, as it last said
	Version      string `json:"version"`
}

// GrantRequest lets a node run services, or no longer (Withdraw).
type GrantRequest struct {
	Node     Name   `json:"node"`
	Services []Name `json:"services"`
	Withdraw bool   `json:"withdraw,omitempty"`
}

// RevokeRequest ends a node's membership: its key is refused from now on.
type RevokeRequest struct {
	Node   Name   `json:"node"`
	Reason string `json:"reason,omitempty"`
}

// NodeResult is a node after a change.
type NodeResult struct {
	Node  Node     `json:"node"`
	Notes []string `json:"notes,omitempty"` // what else was done, one line each
}

// Service is one service with its instances on all nodes.
type Service struct {
	Name      Name       `json:"name"`
	ID        string     `json:"id"` // SPIFFE ID
	Virtual4  netip.Addr `json:"virtual4,omitzero"`
	Virtual6  netip.Addr `json:"virtual6,omitzero"`
	Instances []Instance `json:"instances"`
}

// Listener says who holds an instance's port.
type Listener string

// The listeners. Only the instance's own node knows; elsewhere it is "".
const (
	ListenerVerified   Listener = "verified"   // the socket belongs to the workload
	ListenerUnverified Listener = "unverified" // no workload to compare it with
	ListenerForeign    Listener = "foreign"    // somebody else's socket: refused with the reason listener
	ListenerNone       Listener = "none"       // nobody listens
)

// Instance is one instance of a service.
type Instance struct {
	ID         string            `json:"id"`
	Node       Name              `json:"node"`
	Address    string            `json:"address"`
	Port       uint16            `json:"port"` // 0: it only calls others
	Tags       []string          `json:"tags,omitempty"`
	Meta       map[string]string `json:"meta,omitempty"`
	Local      bool              `json:"local"`
	Healthy    bool              `json:"healthy"`
	Listener   Listener          `json:"listener,omitempty"`
	Permissive bool              `json:"permissive,omitempty"` // plain connections to its port are let in
	Source     string            `json:"source,omitempty"`     // where a local one was defined: file:line, or "command"
}

// Workload says which processes are an instance: at most one field is set;
// none means `tacit run NAME` and the unit NAME.service.
type Workload struct {
	Cgroup      string  `json:"cgroup,omitempty"`
	SystemdUnit string  `json:"systemd_unit,omitempty"`
	UID         *uint32 `json:"uid,omitempty"`
	NetNS       string  `json:"netns,omitempty"`
	Interface   string  `json:"interface,omitempty"`
	Container   string  `json:"container,omitempty"`
}

// Upstream is an explicit local port for another service.
type Upstream struct {
	Destination Name           `json:"destination"`
	Bind        netip.AddrPort `json:"bind"`
}

// Registration is an instance of a service on this node.
type Registration struct {
	Name       Name              `json:"name"`
	ID         string            `json:"id,omitempty"`      // default: the name
	Port       uint16            `json:"port,omitempty"`    // 0: it only calls others
	Address    string            `json:"address,omitempty"` // IP; default: the node's
	Tags       []string          `json:"tags,omitempty"`
	Meta       map[string]string `json:"meta,omitempty"`
	Workload   Workload          `json:"workload,omitzero"`
	Permissive bool              `json:"permissive,omitempty"`
	Upstreams  []Upstream        `json:"upstreams,omitempty"`
	Yes        bool              `json:"yes,omitempty"` // even where the port carries the caller's own session: that one stays, the next is refused
}

// RegisterResult is what registering did.
type RegisterResult struct {
	Service     Service  `json:"service"`
	Warnings    []string `json:"warnings,omitempty"` // one line each: plain clients that are cut, nobody may call it yet
	GrantSigned bool     `json:"grant_signed"`       // this operator's node granted the service to itself
	Notes       []string `json:"notes,omitempty"`
}

// Deregistration removes instances that were registered by command on this node.
type Deregistration struct {
	Name Name   `json:"name"`
	ID   string `json:"id,omitempty"` // default: every instance of the service here
}

// DeregisterResult names what was removed.
type DeregisterResult struct {
	Removed []string `json:"removed"` // instance ids
	Notes   []string `json:"notes,omitempty"`
}

// RunRequest asks to make the calling process (PeerFrom) a workload of Service.
type RunRequest struct {
	Service Name `json:"service"`
}

// RunResult says where the process is now.
type RunResult struct {
	Service     Name     `json:"service"`
	Cgroup      string   `json:"cgroup"`
	Registered  bool     `json:"registered"` // the service wasn't known here and is now
	GrantSigned bool     `json:"grant_signed"`
	Warnings    []string `json:"warnings,omitempty"`
}

// TokenRequest asks for a single-use join token.
type TokenRequest struct {
	Node     Name          `json:"node"`
	Services []Name        `json:"services,omitempty"`
	TTL      time.Duration `json:"ttl_ns,omitempty"` // 0: 15 minutes
}

// Token is a secret until it is used.
type Token struct {
	Token    string    `json:"token"`
	Node     Name      `json:"node"`
	Services []Name    `json:"services,omitempty"`
	Expires  time.Time `json:"expires"`
}

// Resolution is what the mesh answers for a name, and why.
type Resolution struct {
	Name     string     `json:"name"`              // as asked
	Service  Name       `json:"service,omitempty"` // "": the name isn't the mesh's and goes to the host's resolver
	Virtual4 netip.Addr `json:"virtual4,omitzero"`
	Virtual6 netip.Addr `json:"virtual6,omitzero"`
	Ports    []uint16   `json:"ports,omitempty"` // those that can be dialled
	Why      string     `json:"why"`             // one sentence
}
