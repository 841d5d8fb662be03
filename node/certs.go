// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"tacit/identity"
	"tacit/node/enrol"
)

// wallet holds the certificates in use: the node's and those of the services
// it runs. It renews each at half life and answers from memory.
type wallet struct {
	n    *Node
	node atomic.Pointer[identity.SVID]

	mu       sync.Mutex
	services map[identity.Name]*identity.SVID
	asking   map[identity.Name]bool
	wake     chan struct{}
	jitter   float64 // this node's share of the spread of renewals
}

func newWallet(n *Node) *wallet {
	w := &wallet{n: n, services: map[identity.Name]*identity.SVID{}, asking: map[identity.Name]bool{}, wake: make(chan struct{}, 1), jitter: rand.Float64()}
	w.node.Store(n.member.svid)
	return w
}

// NodeSVID is the node's certificate as it is now.
func (w *wallet) NodeSVID() *identity.SVID { return w.node.Load() }

// Bundle is the mesh's roots.
func (w *wallet) Bundle() *identity.Bundle { return w.n.member.bundle }

// ServiceSVID returns the certificate that proves the service on lanes.
func (w *wallet) ServiceSVID(name identity.Name) (*identity.SVID, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s := w.services[name]; s != nil && time.Now().Before(s.Chain[0].NotAfter) {
		return s, nil
	}
	return nil, fmt.Errorf("no certificate for service %s yet: an authority must answer first", name)
}

// Want makes sure that the named services, and no others, have certificates.
func (w *wallet) Want(names []identity.Name) {
	w.mu.Lock()
	defer w.mu.Unlock()
	wanted := map[identity.Name]bool{}
	for _, name := range names {
		wanted[name] = true
		if !w.asking[name] {
			w.nudge()
		}
	}
	for name := range w.services {
		if !wanted[name] {
			delete(w.services, name)
		}
	}
	w.asking = wanted
}

func (w *wallet) nudge() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Run renews until ctx ends; a failed attempt is tried again within seconds.
func (w *wallet) Run(ctx context.Context) error {
	for {
		next := w.renewDue(ctx)
		timer := time.NewTimer(max(time.Until(next), 100*time.Millisecond))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-w.wake:
			timer.Stop()
		case <-timer.C:
		}
	}
}

const retryAfter = 2 * time.Second

// renewDue renews what is due and returns when to look again.
func (w *wallet) renewDue(ctx context.Context) time.Time {
	next := time.Now().Add(time.Hour)
	look := func(at time.Time) {
		if at.Before(next) {
			next = at
		}
	}
	if due := w.NodeSVID().RenewAt(w.jitter); time.Now().Before(due) {
		look(due)
	} else {
		look(w.report("node", w.renewNode(ctx)))
	}
	for _, name := range w.wanted() {
		s := w.held(name)
		if s != nil && time.Now().Before(s.RenewAt(w.jitter)) {
			look(s.RenewAt(w.jitter))
			continue
		}
		look(w.report(string(name), w.renewService(ctx, name)))
	}
	return next
}

func (w *wallet) report(what string, err error) time.Time {
	if err == nil {
		return time.Now()
	}
	w.n.log.Warn("certificate not renewed, trying again", "of", what, "err", err)
	return time.Now().Add(retryAfter)
}

func (w *wallet) wanted() []identity.Name {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []identity.Name
	for name := range w.asking {
		out = append(out, name)
	}
	return out
}

func (w *wallet) held(name identity.Name) *identity.SVID {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.services[name]
}

func (w *wallet) renewNode(ctx context.Context) error {
	m := w.n.member
	chain, err := w.ask(ctx, m.key, "")
	if err != nil {
		return err
	}
	s := &identity.SVID{ID: w.NodeSVID().ID, Chain: chain, Key: m.key}
	w.node.Store(s)
	return s.Save(w.n.cfg.path(fileNodeCert))
}

// renewService makes a new key each time; it stays in memory.
func (w *wallet) renewService(ctx context.Context, name identity.Name) error {
	key, err := identity.NewKey()
	if err != nil {
		return err
	}
	chain, err := w.ask(ctx, key, name)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.asking[name] {
		w.services[name] = &identity.SVID{ID: identity.ServiceID(w.Bundle().TrustDomain(), name), Chain: chain, Key: key}
	}
	return nil
}

// ask gets a certificate from this node's own authority or from another's.
func (w *wallet) ask(ctx context.Context, key *identity.Key, service identity.Name) ([]*x509.Certificate, error) {
	csr, err := identity.NewCSR(key)
	if err != nil {
		return nil, err
	}
	r := enrol.Renewal{Service: service, CSR: csr}
	if w.n.member.authority != nil {
		out, err := office{w.n}.Issue(ctx, w.n.cfg.name, w.n.member.key.Public(), r)
		if err != nil {
			return nil, err
		}
		return identity.DecodeChain(out.Chain)
	}
	return w.askOthers(ctx, r)
}

func (w *wallet) askOthers(ctx context.Context, r enrol.Renewal) ([]*x509.Certificate, error) {
	var errs []error
	for _, name := range w.n.member.ledger.Authorities() {
		host, ok := w.n.member.ledger.Node(name)
		if !ok {
			continue
		}
		addr, err := netip.ParseAddr(host.Address)
		if err != nil {
			continue
		}
		conf := identity.ClientTLS(w, identity.ALPNIssue, identity.NodeID(w.Bundle().TrustDomain(), name), w.n.checkPeer)
		out, err := enrol.Renew(ctx, netip.AddrPortFrom(addr, host.LanePort), conf, r)
		if err == nil {
			return identity.DecodeChain(out.Chain)
		}
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		return nil, errors.New("no authority is known yet")
	}
	return nil, errors.Join(errs...)
}

func issued(chain []*x509.Certificate, err error) (*enrol.Issued, error) {
	if err != nil {
		return nil, err
	}
	return &enrol.Issued{Chain: identity.EncodeChain(chain)}, nil
}
