// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"tacit/identity"
	"tacit/node/catalog"
	"tacit/node/config"
	"tacit/node/health"
	"tacit/node/inventory"
	"tacit/policy"
	"tacit/policy/kernel"
	"tacit/policy/ledger/statement"
	"tacit/policy/resolver"
	"tacit/redirect/netns"
)

// How often the loop looks by itself. Records, members, definitions, cgroups,
// addresses and, where there are hooks, listeners wake it.
const (
	lookInterval   = 2 * time.Second        // who listens, where the hooks announce it
	tproxyInterval = 500 * time.Millisecond // who listens, with --redirect tproxy
	fullInterval   = 10 * time.Second       // everything, in case a notice was lost
)

// Inventory is what is defined and runs on this node.
type Inventory interface {
	Look() (v *inventory.View, changed bool)
	Keep()
}

// Records are the signed state, as far as the loop reads it.
type Records interface {
	catalog.Records
	Digest() [32]byte
	PolicyDigest() [32]byte // of the records that Intentions and Resolvers follow from
	Granted(node, service identity.Name) bool
	Intentions() []policy.Intention
	Published(node identity.Name) []statement.Instance
}

// Enforcer holds the kernel's state.
type Enforcer interface {
	Apply(kernel.State) (changed bool, err error)
	Revision() kernel.Revision
	Sweep(context.Context) (cut int, err error)
	SweepWanted() <-chan struct{}
}

// Peers are the other nodes.
type Peers interface {
	// Of returns the proven addresses at which an instance is called.
	Of(catalog.Instance) []netip.Addr
	// Found is told that nodes or their records have changed.
	Found()
}

// Health learns what is wrong.
type Health interface {
	Set(f health.Family, thing string, err error) (news bool)
	Replace(f health.Family, now map[string]error)
}

// Config is what a Loop works with. Functions must not block.
type Config struct {
	Settings  *config.Settled
	Inventory Inventory
	Records   Records
	Publisher *Publisher
	Enforcer  Enforcer
	Peers     Peers
	Alive     func() map[identity.Name]bool // which members answer
	Addresses func() []netip.Addr           // this host's own
	// Names are the DNS names that nobody else may be asked for; see Input.
	Names    func(tags map[identity.Name][]string) (domains, hosts []string, crowded bool)
	Foreign  func(netip.Addr) error         // why an address isn't outside of the mesh
	Enrol    func(*kernel.State)            // adds the self-probe
	Answer   func(ports []uint16) error     // leads what programs answer to their callers' own addresses back to the daemon
	Want     func(services []identity.Name) // that need certificates
	Streams  func() (cut int)               // judges the proxy's streams again
	Announce func(digest, names string)     // what is in force here; digest "": not the policy
	Remember func([]kernel.Remote) error    // for `tacitd guard` at the next boot
	Save     func()                         // keeps what the disk had no room for
	Behind   func() bool                    // records may be missing: nothing is allowed
	Health   Health
	Log      *slog.Logger
}

// Loop is safe for concurrent use.
type Loop struct {
	standing
	conf     Config
	catalog  atomic.Pointer[catalog.Catalog]
	table    atomic.Pointer[policy.Table]
	guests   atomic.Pointer[map[uint32]identity.Name] // by the interface that leads to them
	wake     chan struct{}
	looks    chan struct{}
	wanted   atomic.Uint64 // changes that others have announced
	sweepDue atomic.Bool

	applying sync.Mutex         // one reconciliation at a time; guards what follows
	done     uint64             // changes that are in force
	full     time.Time          // of the last full look
	later    *time.Timer        // publishes what had to wait
	rules    []policy.Intention // of the table
	judged   [32]byte           // the ledger's digest when the table was compared with it
	swept    [32]byte           // the ledger's digest at the last sweep
	inner    []netns.Namespace  // with instances, at the last look
	up       map[identity.Name]bool
	behind   bool // as the table has it
	failed   bool // something wasn't written: try again at the next look
}

type noRecords struct{}

func (noRecords) Instances() []statement.Instance           { return nil }
func (noRecords) Resolvers() []resolver.Rules               { return nil }
func (noRecords) Node(identity.Name) (statement.Node, bool) { return statement.Node{}, false }
func (noRecords) Vouched(_, _ identity.Name) []string       { return nil }

// New returns a loop that has done nothing yet: its catalog is empty, and its
// policy has no rules.
func New(c Config) *Loop {
	l := &Loop{conf: c, wake: make(chan struct{}, 1), looks: make(chan struct{}, 1)}
	l.later = time.AfterFunc(time.Hour, l.Nudge)
	l.later.Stop()
	l.catalog.Store(catalog.New(c.Settings.Name, noRecords{}, nil))
	l.behind = c.Behind()
	l.table.Store(l.tableOf(nil))
	return l
}

// Catalog is the picture of the mesh that is in force.
func (l *Loop) Catalog() *catalog.Catalog { return l.catalog.Load() }

// Policy is the table that is in force, or about to be.
func (l *Loop) Policy() *policy.Table { return l.table.Load() }

// Guest is the service whose workload an interface leads to, "" for none.
func (l *Loop) Guest(index uint32) identity.Name {
	if all := l.guests.Load(); all != nil {
		return (*all)[index]
	}
	return ""
}

// Nudge says that something has changed. It never blocks.
func (l *Loop) Nudge() {
	l.wanted.Add(1)
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Look says that something may have changed which Inventory.Look finds. It never
// blocks.
func (l *Loop) Look() {
	select {
	case l.looks <- struct{}{}:
	default:
	}
}

// Judge is Nudge, and has all connections judged again.
func (l *Loop) Judge() {
	l.sweepDue.Store(true)
	l.Nudge()
}

// Run reconciles until ctx ends.
func (l *Loop) Run(ctx context.Context) error {
	interval := lookInterval
	if l.conf.Settings.Redirect == config.TPROXY {
		interval = tproxyInterval
	}
	tick := time.NewTicker(interval)
	defer l.later.Stop()
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-l.looks:
		case <-l.wake:
			if l.settled() {
				continue // by Settle, meanwhile
			}
		case <-l.conf.Enforcer.SweepWanted():
			l.sweepDue.Store(true) // a pair completed behind a sweep's back
		}
		l.Settle()
	}
}

func (l *Loop) settled() bool {
	l.applying.Lock()
	defer l.applying.Unlock()
	return l.done == l.wanted.Load() && !l.sweepDue.Load()
}

// Settle brings everything in force that has changed up to now, and returns
// when it is: instances are published, maps written, live connections judged
// again, the revision announced.
func (l *Loop) Settle() {
	l.applying.Lock()
	defer l.applying.Unlock()
	if l.retired {
		return
	}
	began := l.wanted.Load()
	l.conf.Save()
	view, changed := l.conf.Inventory.Look()
	if due := time.Since(l.full) >= fullInterval; changed || due || began != l.done || l.failed || l.membersChanged() {
		l.conf.Inventory.Keep()
		l.failed = !l.bring(view)
		l.full = time.Now()
	}
	l.done = began
	inner := view.Inner()
	if due := !slices.Equal(inner, l.inner); due { // listeners there may be older than their workload's enrolment
		l.sweepDue.Store(true)
	}
	l.inner = inner
	if l.sweepDue.Swap(false) && l.sweep(inner) != nil {
		l.sweepDue.Store(true) // again next time
	}
}

// Hold waits for the reconciliation that is going on; there is no other before Resume.
func (l *Loop) Hold() { l.applying.Lock() }

// Resume undoes Hold; with retire, nothing is reconciled any more: another daemon does.
func (l *Loop) Resume(retire bool) {
	l.retired = retire
	l.applying.Unlock()
}

func (l *Loop) membersChanged() bool { return !maps.Equal(l.up, l.conf.Alive()) }
