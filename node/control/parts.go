// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"net/netip"
	"time"

	"tacit/bpf"
	"tacit/identity"
	"tacit/node/api"
	"tacit/node/balance"
	"tacit/node/catalog"
	"tacit/node/checks"
	"tacit/node/definition"
	"tacit/node/health"
	"tacit/node/inventory"
	"tacit/node/limits"
	"tacit/node/membership"
	"tacit/node/probe"
	"tacit/node/reconcile/share"
	"tacit/node/records"
	"tacit/policy"
	"tacit/policy/kernel"
	"tacit/policy/ledger"
	"tacit/redirect"
	"tacit/redirect/sockdiag"
	"tacit/tproxy"
	"tacit/tproxy/lane"
)

// Records are the signed state.
type Records interface {
	View() *ledger.View
	Sign(key *identity.Key, c records.Change) error
	// SignAll makes all the records or none.
	SignAll(key *identity.Key, changes []records.Change) error
	Revisions() map[identity.Name]records.Revision
	// Dropped counts revisions that nobody announced who may.
	Dropped() records.Dropped
	// Await waits, for a few seconds after the start, until operators may sign.
	Await(ctx context.Context) error
}

// Signer signs grants.
type Signer interface {
	// GrantOwn is nil when this node may run the service.
	// For outside, real names and addresses, an operator vouches thereby.
	GrantOwn(service identity.Name, outside ...string) error
	Grant(node, service identity.Name, withdraw bool, outside ...string) error
}

// Tokens makes join tokens.
type Tokens interface {
	NewToken(membership.TokenRequest) (text string, expires time.Time, err error)
}

// Certificates are those in use.
type Certificates interface {
	Check() error
	Served() []membership.Served
}

// Inventory is what is defined and runs on this node.
type Inventory interface {
	View() *inventory.View
	Register(definition.Definition) error
	Deregister(id string) error
	Held(definition.Definition) bool
	Release(definition.Definition) (was bool, err error)
	Exempt([]sockdiag.Connection) error
	// PlainClients lists the connections to a port that the mesh does not carry,
	// without own, by which the person at the process pid works on this host.
	PlainClients(port uint16, pid int) (plain, own []sockdiag.Connection, err error)
	// Rescan has the next look examine the cgroup tree.
	Rescan()
}

// Checks are the health checks of this node's instances.
type Checks interface {
	Results(instance string) []checks.Result
	Update(id, status, note string) error
}

// Loop brings changes in force.
type Loop interface {
	Catalog() *catalog.Catalog
	Policy() *policy.Table
	// Digest is what InForce should be.
	Digest() string
	InForce() string // "": no policy as a whole
	// Absent says since when nodes don't answer.
	Absent() map[identity.Name]time.Time
	// Excess is what members announce beyond their shares of the kernel's maps.
	Excess() []share.Excess
	Settle()
}

// Datapath is the kernel's side of this node.
type Datapath interface {
	Hooks() ([]bpf.Hook, error)
	Drift() ([]string, error)
	Shadows() ([]redirect.Shadow, error)
	Plan() redirect.Plan
}

// Enforcer holds the kernel's state.
type Enforcer interface {
	Revision() kernel.Revision
	Counters() (given, lost map[policy.Reason]uint64, err error)
	Room(sources []identity.Name) ([]kernel.Room, error)
}

// SelfProbe tries what programs do.
type SelfProbe interface {
	Results(context.Context) ([]probe.Result, error)
}

// Journal is the connections that ended or were refused, and who changed what.
type Journal interface {
	// Author is who signed what is in force for a record's key, and since when.
	Author(k ledger.Kind, key string) (by string, at time.Time, ok bool)
	// After returns the records with a higher number, and the highest number.
	After(seq uint64) ([]api.FlowRecord, uint64, error)
	Totals() (api.FlowTotals, error)
}

// Proxy carries connections.
type Proxy interface {
	// Ejected are the instances to which this node carries none for a while.
	Ejected(service identity.Name) map[balance.Key]balance.Ejected
	Flows() []tproxy.Flow
	Lanes() []lane.Info
	// Cut is how many lanes were refused or ended through the peer's fault.
	Cut() map[policy.Reason]uint64
	// Refused is how many connections to the lane port have proven nothing yet, and
	// how many were refused.
	Refused() (unproven int, refused map[policy.Reason]uint64)
	// Descriptors and Memory are those that this process uses.
	Descriptors() limits.Use
	Memory() limits.Use
	// Draining is what an earlier daemon still carries, "" for nothing.
	Draining() string
}

// Names are the mesh's DNS names and virtual addresses, and what is outside of it.
type Names interface {
	// Service says which service a name means, "" for none, and why.
	Service(name string) (service identity.Name, why string)
	Virtual(identity.Name) (v4, v6 netip.Addr)
	// Outside says what the bare name of a service means outside of the mesh, one
	// sentence each; it takes less than half a second.
	Outside(ctx context.Context, name identity.Name) []string
	// Rebinding is how many answers of resolvers were refused because they led to
	// a virtual address.
	Rebinding() uint64
	// Foreign says why an address can't be that of a service outside of the mesh.
	Foreign(netip.Addr) error
	// Reached are the addresses at which this node reaches an instance outside of the
	// mesh by itself, as far as they are known.
	Reached(catalog.Instance) []netip.AddrPort
}

// Deadline is the time in which a start can be confirmed.
type Deadline interface {
	Left() (left time.Duration, open bool)
	Confirm() (had bool, err error)
}

// Board is what went wrong, and what was repaired.
type Board interface {
	Get(f health.Family, thing string) error
	Problems() []health.Problem
	Repairs(since time.Time) []health.Repair
	Counts() map[string]uint64
	// Short is what couldn't be examined for want of descriptors or memory.
	Short() map[health.Key]error
}
