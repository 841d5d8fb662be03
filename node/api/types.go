// SPDX-License-Identifier: Apache-2.0

// Package api connects the CLI to the daemon: the types, the Backend that the
// daemon implements, the server on a unix socket, and the client. It must not
// decide anything: it checks the form of requests and who sends them.
package api

import (
	"fmt"
	"net/netip"
	"time"

	"tacit/identity"
	"tacit/policy"
	"tacit/policy/resolver"
)

// Name, Reason, Action and Rules are the types of identity and policy, under names
// that spare the CLI those imports.
type (
	Name   = identity.Name
	Reason = policy.Reason
	Action = policy.Action
	Rules  = resolver.Rules
)

// Status is the health of the node that answers.
type Status struct {
	Node          Name              `json:"node"`
	TrustDomain   string            `json:"trust_domain"`
	Version       string            `json:"software"`
	Healthy       bool              `json:"healthy"`          // every check is OK
	Unheld        []string          `json:"unheld,omitempty"` // guarantees that this node's --redirect doesn't give
	Checks        []Check           `json:"checks"`
	Revision      uint64            `json:"revision"`           // grows with every policy change in the kernel maps
	Digest        string            `json:"digest"`             // of the policy that the kernel maps hold
	Counters      map[Reason]uint64 `json:"counters,omitempty"` // verdicts of the kernel programs, since their maps were made
	Flows         FlowTotals        `json:"flows"`
	UptimeSeconds float64           `json:"uptime_seconds"`
	// RebindingAnswers are answers of resolvers that were refused because they led to virtual addresses.
	RebindingAnswers uint64        `json:"rebinding_answers,omitempty"`
	Certificates     []Certificate `json:"certificates,omitempty"`
	Lanes            []Lane        `json:"lanes,omitempty"`
	LanePort         LanePort      `json:"lane_port"`
	Descriptors      Use           `json:"descriptors"` // of the daemon
	Memory           Use           `json:"memory"`      // in bytes, of the daemon's cgroup
}

// Use is how much of something is used; connections may not use all of Limit, which
// is 0 where there is none.
type Use struct {
	Used  uint64 `json:"used"`
	Limit uint64 `json:"limit,omitempty"`
}

// LanePort is what the lane port had to refuse since the daemon's start, by reason.
type LanePort struct {
	Unproven int               `json:"unproven"`          // connections that have proven nothing yet
	Refused  map[Reason]uint64 `json:"refused,omitempty"` // connections
	Cut      map[Reason]uint64 `json:"cut,omitempty"`     // lanes of members, for what these did
}

// ConfirmRequest makes the changes of a start with --confirm permanent.
type ConfirmRequest struct{}

// ConfirmResult says what stays. Confirmed is false when no start was unconfirmed.
type ConfirmResult struct {
	Confirmed bool     `json:"confirmed"`
	Permanent []string `json:"permanent,omitempty"` // one line each
}

// Lane is one live connection between two nodes, with the services proven on it.
type Lane struct {
	Peer       string   `json:"peer"`      // SPIFFE ID of the other node
	Direction  string   `json:"direction"` // out or in
	Proven     []string `json:"proven"`    // SPIFFE IDs of the services proven on it
	AgeSeconds float64  `json:"age_seconds"`
	Streams    int      `json:"streams"` // carried so far
}

// Check is one result of the self-probe or of a health check.
type Check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Reason string `json:"reason,omitempty"` // what was found; may also be set when OK
	Hint   string `json:"hint,omitempty"`   // what to do
}

// CheckConfirm is the check that is there while a start waits for `tacit confirm`.
const CheckConfirm = "confirm"

// Certificate is a certificate in use on this node.
type Certificate struct {
	ID        string    `json:"id"` // SPIFFE ID
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	RenewAt   time.Time `json:"renew_at,omitzero"`
}

// Node is one member of the mesh as the answering node sees it.
type Node struct {
	Name      Name   `json:"name"`
	ID        string `json:"id"`      // SPIFFE ID
	Address   string `json:"address"` // from the node's signed record
	Alive     bool   `json:"alive"`
	Local     bool   `json:"local"` // the node that answers
	Authority bool   `json:"authority"`
	Operator  bool   `json:"operator"` // holds an operator key
	Keys      []Key  `json:"keys"`     // but those of services
	Grants    []Name `json:"grants"`
	// Outside are the real names and addresses in the grants, by service.
	Outside      map[Name][]string `json:"outside,omitempty"`
	PolicyDigest string            `json:"policy_digest"` // of the policy in its kernel maps, as it last announced
	Version      string            `json:"software"`
}

// GrantRequest grants services to a node, or withdraws the grants.
type GrantRequest struct {
	Node     Name   `json:"node"`
	Services []Name `json:"services"`
	Withdraw bool   `json:"withdraw,omitempty"`
	// Outside are real names and addresses that the node's instances may stand for,
	// besides those of an earlier grant; with Withdraw, only these are withdrawn.
	Outside []string `json:"outside,omitempty"`
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
	Balance   string     `json:"balance,omitempty"` // how callers choose among the instances; "": least
	Retry     string     `json:"retry,omitempty"`   // when callers try another instance; "": unanswered
	Resolver  *Resolver  `json:"resolver,omitempty"`
	Instances []Instance `json:"instances"`
}

// Resolver is what operators have set for a service's connections, as it is in force
// on the node that answers.
type Resolver struct {
	Rules
	Sets     []Subset `json:"sets,omitempty"`      // of Rules, by name
	Standby  Name     `json:"stands_in,omitempty"` // answers now, because no instance does, to those who may call it
	SignedBy []Name   `json:"signed_by"`           // nodes with the operators' keys
	Conflict bool     `json:"conflict,omitempty"`  // several operators have signed at once; all nodes take the same one
}

// Subset is one subset of a service now.
type Subset struct {
	Name      Name `json:"name"`
	Instances int  `json:"instances"`
	Healthy   int  `json:"healthy"`
	Percent   int  `json:"percent"` // of new connections, rounded; those of a subset without a healthy instance go to the others
}

// Listener says whose socket listens on an instance's port.
type Listener string

// The listeners. On other nodes than the instance's it is "".
const (
	ListenerVerified   Listener = "verified"   // the socket belongs to the workload
	ListenerUnverified Listener = "unverified" // the service has no workload to compare the socket with
	ListenerForeign    Listener = "foreign"    // the socket isn't the workload's: refused with the reason listener
	ListenerNone       Listener = "none"       // no socket listens
	ListenerOutside    Listener = "outside"    // the service is outside of the mesh: no program of the node is asked for
)

// DownNode is why an instance isn't healthy whose node doesn't answer.
const DownNode = "node"

// Instance is one instance of a service.
type Instance struct {
	ID         string            `json:"id"`
	Node       Name              `json:"node"`
	Address    string            `json:"address"`         // "" for one outside of the mesh
	Port       uint16            `json:"port"`            // 0: the program only calls others
	Place      string            `json:"place,omitempty"` // network namespace in which it listens: "container 0123456789ab"; "": its node's
	Tags       []string          `json:"tags,omitempty"`
	Meta       map[string]string `json:"meta,omitempty"`
	Local      bool              `json:"local"`
	Healthy    bool              `json:"healthy"`        // the same on every node: its node answers and says that it can serve
	Down       string            `json:"down,omitempty"` // why it isn't: DownNode, "listener" (the workload doesn't listen), "address" (none is known of an outside service) or "check NAME"
	Listener   Listener          `json:"listener,omitempty"`
	Permissive bool              `json:"permissive,omitempty"` // its port accepts plain connections
	Weight     int               `json:"weight,omitempty"`
	Zone       string            `json:"zone,omitempty"` // its node's
	Ejected    *Ejected          `json:"ejected,omitempty"`
	Outside    *Outside          `json:"outside,omitempty"` // nil: a program of the node
	Ingress    *Ingress          `json:"ingress,omitempty"` // nil: an instance of a service
	Defined
}

// Defined is what only an instance's own node knows of it.
type Defined struct {
	Source        string        `json:"source,omitempty"`         // where it was defined: file:line, or "command"
	ClientAddress string        `json:"client_address,omitempty"` // what its program sees of its callers: service, client, loopback or proxy_protocol
	Checks        []HealthCheck `json:"checks,omitempty"`
	Settings      []Setting     `json:"settings,omitempty"` // of its file, but for the checks
	Ignored       []string      `json:"ignored,omitempty"`  // settings of its file without a meaning here, one line each
}

// Ingress is where a node takes plain connections for a service.
type Ingress struct {
	Listen      string `json:"listen"` // address and port
	Service     Name   `json:"service"`
	Port        uint16 `json:"port,omitempty"`        // of the service; 0: its only one
	Connections int    `json:"connections,omitempty"` // live ones, of a local ingress
}

// String says from where to where, as in "*:8080 -> web".
func (i Ingress) String() string {
	if i.Port == 0 {
		return i.Listen + " -> " + string(i.Service)
	}
	return fmt.Sprintf("%s -> %s:%d", i.Listen, i.Service, i.Port)
}

// Ejected says that the node that was asked leaves an instance out.
type Ejected struct {
	Until    time.Time `json:"until"`    // then one connection tries it
	Failures int       `json:"failures"` // of connections, in a row
}

// Setting is one setting of a service file, as it stands there.
type Setting struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Source string `json:"source"` // file:line
}

// Workload says which processes are the instance's. At most one field is set; if
// none is, they are those of `tacit run NAME` and of the unit NAME.service.
type Workload struct {
	Cgroup      string  `json:"cgroup,omitempty"`
	SystemdUnit string  `json:"systemd_unit,omitempty"`
	UID         *uint32 `json:"uid,omitempty"`
	NetNS       string  `json:"netns,omitempty"`
	Interface   string  `json:"interface,omitempty"`
	Container   string  `json:"container,omitempty"`
}

// Upstream is a loopback port that leads to another service.
type Upstream struct {
	Destination Name           `json:"destination"`
	Bind        netip.AddrPort `json:"bind"`
}

// Registration is an instance of a service on this node.
type Registration struct {
	Name          Name              `json:"name"`
	ID            string            `json:"id,omitempty"`      // default: the name
	Port          uint16            `json:"port,omitempty"`    // 0: the program only calls others
	Address       string            `json:"address,omitempty"` // IP; default: the node's
	Tags          []string          `json:"tags,omitempty"`
	Meta          map[string]string `json:"meta,omitempty"`
	Workload      Workload          `json:"workload,omitzero"`
	Permissive    bool              `json:"permissive,omitempty"`
	ClientAddress string            `json:"client_address,omitempty"` // what the program sees of its callers: service (default), client, loopback or proxy_protocol
	Upstreams     []Upstream        `json:"upstreams,omitempty"`
	Outside       []string          `json:"outside,omitempty"`    // hosts and addresses outside of the mesh; none: a program of this node
	Anywhere      bool              `json:"anywhere,omitempty"`   // each node reaches them by itself
	Yes           bool              `json:"yes,omitempty"`        // even if the port carries the caller's own session, whose successor will be refused
	Wait          bool              `json:"wait,omitempty"`       // answer when every member resolves the service, or after Timeout
	Live          bool              `json:"live,omitempty"`       // with Wait: every member that answers
	Timeout       time.Duration     `json:"timeout_ns,omitempty"` // of Wait; 0: DefaultWait, at most MaxWait
}

// RegisterResult says what registering did.
type RegisterResult struct {
	Service     Service  `json:"service"`
	Warnings    []string `json:"warnings,omitempty"` // one line each: plain clients that are cut, no intention allows a caller yet
	GrantSigned bool     `json:"grant_signed"`       // this node granted the service to itself with its operator key
	Notes       []string `json:"notes,omitempty"`
	Spread      *Spread  `json:"spread,omitempty"` // only with Wait
}

// Spread says which nodes resolve a service by the ports that it has now.
type Spread struct {
	Resolves int `json:"resolves"`
	Counted
}

// Deregistration removes instances that were registered on this node by command.
type Deregistration struct {
	Name Name   `json:"name"`
	ID   string `json:"id,omitempty"` // default: all of the service's instances on this node
}

// DeregisterResult names what was removed.
type DeregisterResult struct {
	Removed []string `json:"removed"` // instance ids
	Notes   []string `json:"notes,omitempty"`
}

// RunRequest makes the calling process (PeerFrom) a workload of Service.
type RunRequest struct {
	Service Name `json:"service"`
}

// RunResult says which cgroup the process was moved to.
type RunResult struct {
	Service     Name     `json:"service"`
	Cgroup      string   `json:"cgroup"`
	Registered  bool     `json:"registered"` // the service was unknown on this node, and was registered
	GrantSigned bool     `json:"grant_signed"`
	Warnings    []string `json:"warnings,omitempty"`
}

// TokenRequest creates a single-use join token.
type TokenRequest struct {
	Node     Name          `json:"node"`
	Services []Name        `json:"services,omitempty"`
	TTL      time.Duration `json:"ttl_ns,omitempty"` // 0: 15 minutes
}

// Token is a join token; it is a secret until it is used.
type Token struct {
	Token    string    `json:"token"`
	Node     Name      `json:"node"`
	Services []Name    `json:"services,omitempty"`
	Expires  time.Time `json:"expires"`
}

// Resolution is the mesh's answer for a name, and why.
type Resolution struct {
	Name     string     `json:"name"`              // as asked
	Service  Name       `json:"service,omitempty"` // "": no service; Why says whether the query is forwarded
	Virtual4 netip.Addr `json:"virtual4,omitzero"`
	Virtual6 netip.Addr `json:"virtual6,omitzero"`
	Ports    []uint16   `json:"ports,omitempty"` // ports that can be dialled
	Why      string     `json:"why"`             // one sentence
}
