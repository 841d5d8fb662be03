// SPDX-License-Identifier: Apache-2.0

// Package peers is the lane port: it takes the connections of other nodes,
// learns by their handshakes who they are, and hands each on to what its ALPN
// asks for. It also proves at which addresses the other nodes are. It must not
// decide what a peer may do.
package peers

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/netip"
	"sync"

	"golang.org/x/sync/errgroup"

	"tacit/identity"
	"tacit/node/config"
	"tacit/node/enrol"
	"tacit/node/health"
	"tacit/node/peers/gate"
	"tacit/policy/ledger/statement"
	"tacit/redirect/listen"
	"tacit/tproxy/headroom"
)

// Lanes serve a lane from after its handshake to its end: a *tproxy.Proxy.
type Lanes interface {
	ServeLane(ctx context.Context, conn *tls.Conn)
}

// Issuer answers enrolments and renewals. Its errors' texts reach the asking node.
type Issuer interface {
	Admit(ctx context.Context, ask enrol.Ask) (*enrol.Admission, error)
	Issue(ctx context.Context, node identity.Name, spki []byte, r enrol.Renewal) (*enrol.Issued, error)
	// Issues says whether this node is an authority.
	Issues() bool
}

// Roll says who is in the mesh, and where each node says it is: a *ledger.View.
type Roll interface {
	Members() []statement.Member
	Node(node identity.Name) (statement.Node, bool)
}

// Store keeps settings by name; Get returns nil for one that was never set.
type Store interface {
	Get(name string) ([]byte, error)
	Set(name string, value []byte) error
}

// Health learns what doesn't work, and which listeners others had closed.
type Health interface {
	Set(f health.Family, thing string, err error) (news bool)
	Repaired(object, found string)
}

// Config is what Peers work with.
type Config struct {
	Settings   *config.Settled
	Identities identity.Source
	Check      identity.PeerCheck // of every peer but those that enrol
	Lanes      Lanes
	Headroom   *headroom.Headroom
	Issuer     Issuer
	Roll       Roll
	Alive      func() map[identity.Name]bool // which nodes answer now
	Store      Store
	Health     Health
	Log        *slog.Logger
	Changed    func()            // the proven addresses are others now; must not block
	Inherited  *listen.Inherited // listeners of the daemon whose work this one takes over
}

// Peers is safe for concurrent use.
type Peers struct {
	conf    Config
	port    netip.AddrPort
	lanes   *listen.Reopening
	tls     *tls.Config
	gate    *gate.Gate
	homes   homes
	work    sync.WaitGroup // handshakes and requests to the issuer
	further further
	proven  proven
	tries   tries
	found   chan struct{} // nodes or their records changed
}

// New reads what an earlier daemon has proven. The port is Run's from then on.
func New(conf Config, port *Port) (*Peers, error) {
	p := &Peers{conf: conf, port: netip.AddrPortFrom(conf.Settings.Addr, port.number()), homes: homes{roll: conf.Roll},
		further: newFurther(), found: make(chan struct{}, 1)}
	p.gate, p.tls = gate.New(&p.homes), p.serverTLS()
	p.lanes = p.reopening(lanePort, port.ln, p.port)
	return p, p.proven.load(conf.Store)
}

// Run serves the lane port and proves addresses until ctx ends. It returns
// when all handshakes and requests to the issuer have ended, too; lanes are the
// proxy's to end.
func (p *Peers) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return p.serve(ctx, p.lanes) })
	g.Go(func() error { return p.serveFurther(ctx) })
	g.Go(func() error { return p.keepProving(ctx) })
	err := g.Wait()
	p.work.Wait()
	return err
}

const lanePort = "lane port"

// reopening keeps a listener of the lane port open, and reports when it was closed.
func (p *Peers) reopening(name string, ln net.Listener, at netip.AddrPort) *listen.Reopening {
	open := func() (net.Listener, error) { return listen.Plain(context.Background(), at) }
	return listen.NewReopening(ln, open, func(err error) {
		p.conf.Health.Set(health.Listener, name, err)
		if err == nil {
			p.conf.Log.Warn("a listener was closed by another program and is open again", "listener", name)
			p.conf.Health.Repaired(name, "closed by others")
		}
	})
}
