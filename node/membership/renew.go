// SPDX-License-Identifier: Apache-2.0

package membership

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"tacit/identity"
	"tacit/node/enrol"
	"tacit/node/health"
	"tacit/policy/ledger/statement"
)

const (
	retryInterval = 2 * time.Second // between two attempts for one certificate, at least
	// lookInterval is how often the wall clock is compared with what is due: timers
	// don't follow a clock that is set, and stand still while a host is suspended.
	lookInterval = 5 * time.Second
)

// A try at the next authority begins when the one before it has failed, or
// after tryNext, so that dead authorities together cost at most deadLimit.
const (
	tryNext   = 250 * time.Millisecond
	deadLimit = 1500 * time.Millisecond
)

// thingNode is the node's own certificate in health; no service has a name
// with a space.
const thingNode = "this node"

// LocalIssuer issues certificates on this node: an *Issuer.
type LocalIssuer interface {
	Issue(ctx context.Context, node identity.Name, spki []byte, r enrol.Renewal) (*enrol.Issued, error)
}

// Run renews until ctx ends. A renewal that failed is reported, and tried again
// every retryInterval.
func (c *Certificates) Run(ctx context.Context) error {
	failed := map[string]bool{} // things with a problem on the board
	for {
		next := c.renewDue(ctx, failed)
		timer := time.NewTimer(min(next.Sub(c.conf.Now()), lookInterval))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-c.wake:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// renewDue renews what is due, and returns when the next renewal is.
func (c *Certificates) renewDue(ctx context.Context, failed map[string]bool) time.Time {
	names := c.wants()
	c.forget(failed, names)
	next := c.conf.Now().Add(lookInterval)
	each := func(thing string, due func() time.Time, renew func() error) {
		at := due()
		if ctx.Err() == nil && !c.conf.Now().Before(at) {
			if err := renew(); ctx.Err() == nil { // else the daemon stops, which is no problem of the certificate
				c.report(failed, thing, err)
			}
			at = later(due(), c.conf.Now().Add(retryInterval))
		}
		if at.Before(next) {
			next = at
		}
	}
	each(thingNode, c.nodeDue, func() error { return c.renewNode(ctx) })
	for _, name := range names {
		each(string(name), func() time.Time { return c.serviceDue(name) }, func() error { return c.renewService(ctx, name) })
	}
	return next
}

// report puts a renewal's outcome on the board.
func (c *Certificates) report(failed map[string]bool, thing string, err error) {
	news := c.conf.Health.Set(health.Certificate, thing, err)
	if err == nil {
		delete(failed, thing)
		return
	}
	failed[thing] = true
	if news {
		c.conf.Log.Warn("certificate not renewed, trying again", "of", thing, "err", err)
	}
}

// forget clears the problems of services that aren't wanted any more.
func (c *Certificates) forget(failed map[string]bool, names []identity.Name) {
	for thing := range failed {
		if thing != thingNode && !slices.Contains(names, identity.Name(thing)) {
			c.report(failed, thing, nil)
		}
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// nodeDue is now while the certificate in use isn't on disk.
func (c *Certificates) nodeDue() time.Time {
	if c.NodeSVID() != c.kept.Load() {
		return time.Time{}
	}
	return c.due(c.NodeSVID())
}

func (c *Certificates) serviceDue(name identity.Name) time.Time {
	if s := c.held(name); s != nil {
		return c.due(s)
	}
	return time.Time{}
}

// due is now for a certificate that others refuse, and for one that isn't valid yet:
// the clock by which it was issued was ahead, and was set back.
func (c *Certificates) due(s *identity.SVID) time.Time {
	if c.revoked(s) || c.conf.Now().Before(s.Chain[0].NotBefore) {
		return time.Time{}
	}
	return s.RenewAt(c.spread)
}

// renewNode brings the new certificate into use even where the disk has no
// room for it; then only writing it is tried again.
func (c *Certificates) renewNode(ctx context.Context) error {
	s := c.NodeSVID()
	if !c.conf.Now().Before(c.due(s)) {
		chain, err := c.ask(ctx, c.conf.Member.Key, "")
		if err != nil {
			return err
		}
		s = &identity.SVID{ID: s.ID, Chain: chain, Key: c.conf.Member.Key}
		c.node.Store(s)
	}
	if err := s.Save(c.conf.Settings.State(fileNodeCert)); err != nil {
		return fmt.Errorf("the renewed certificate is in use and can't be kept: %w", err)
	}
	c.kept.Store(s)
	return nil
}

// renewService makes a new key each time; it stays in memory.
func (c *Certificates) renewService(ctx context.Context, name identity.Name) error {
	key, err := identity.NewKey()
	if err != nil {
		return err
	}
	chain, err := c.ask(ctx, key, name)
	if err != nil {
		return err
	}
	c.put(name, &identity.SVID{ID: identity.ServiceID(c.Bundle().TrustDomain(), name), Chain: chain, Key: key})
	return nil
}

// ask gets a certificate from this node's own authority, unless that is revoked, or
// from another's.
func (c *Certificates) ask(ctx context.Context, key *identity.Key, service identity.Name) ([]*x509.Certificate, error) {
	csr, err := identity.NewCSR(key)
	if err != nil {
		return nil, err
	}
	r := enrol.Renewal{Service: service, CSR: csr}
	if a := c.conf.Member.Authority; a == nil || c.conf.Roll.Revoked(a.Key().ID()) {
		return c.askOthers(ctx, r)
	}
	out, err := c.conf.Issuer.Issue(ctx, c.conf.Settings.Name, c.conf.Member.Key.Public(), r)
	if err != nil {
		return nil, err
	}
	return identity.DecodeChain(out.Chain)
}

// askOthers asks the authorities, until one issues.
func (c *Certificates) askOthers(ctx context.Context, r enrol.Renewal) ([]*x509.Certificate, error) {
	var tries []func(context.Context) ([]*x509.Certificate, error)
	for _, name := range c.conf.Roll.Authorities() {
		if host, ok := c.conf.Roll.Node(name); ok {
			tries = append(tries, func(ctx context.Context) ([]*x509.Certificate, error) { return c.askOne(ctx, name, host, r) })
		}
	}
	if len(tries) == 0 {
		return nil, errors.New("no authority is known yet")
	}
	return staggered(ctx, min(tryNext, deadLimit/time.Duration(len(tries))), tries)
}

func (c *Certificates) askOne(ctx context.Context, name identity.Name, host statement.Node, r enrol.Renewal) ([]*x509.Certificate, error) {
	addr, err := netip.ParseAddr(host.Address)
	if err != nil {
		return nil, fmt.Errorf("authority %s: %w", name, err)
	}
	conf := identity.ClientTLS(c, identity.ALPNIssue, identity.NodeID(c.Bundle().TrustDomain(), name), c.conf.Check)
	out, err := c.conf.Renew(ctx, netip.AddrPortFrom(addr, host.LanePort), conf, r)
	if err != nil {
		return nil, err
	}
	return identity.DecodeChain(out.Chain)
}
