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
	longestWait   = time.Hour       // timers don't follow a clock that is set, and stand still in a suspended host
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
		timer := time.NewTimer(time.Until(next))
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
	next := time.Now().Add(longestWait)
	each := func(thing string, due func() time.Time, renew func() error) {
		at := due()
		if ctx.Err() == nil && !time.Now().Before(at) {
			if err := renew(); ctx.Err() == nil { // else the daemon stops, which is no problem of the certificate
				c.report(failed, thing, err)
			}
			at = later(due(), time.Now().Add(retryInterval))
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
	return c.NodeSVID().RenewAt(c.spread)
}

func (c *Certificates) serviceDue(name identity.Name) time.Time {
	if s := c.held(name); s != nil {
		return s.RenewAt(c.spread)
	}
	return time.Time{}
}

// renewNode brings the new certificate into use even where the disk has no
// room for it; then only writing it is tried again.
func (c *Certificates) renewNode(ctx context.Context) error {
	s := c.NodeSVID()
	if !time.Now().Before(s.RenewAt(c.spread)) {
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

// ask gets a certificate from this node's own authority or from another's.
func (c *Certificates) ask(ctx context.Context, key *identity.Key, service identity.Name) ([]*x509.Certificate, error) {
	csr, err := identity.NewCSR(key)
	if err != nil {
		return nil, err
	}
	r := enrol.Renewal{Service: service, CSR: csr}
	if c.conf.Member.Authority == nil {
		return c.askOthers(ctx, r)
	}
	out, err := c.conf.Issuer.Issue(ctx, c.conf.Settings.Name, c.conf.Member.Key.Public(), r)
	if err != nil {
		return nil, err
	}
	return identity.DecodeChain(out.Chain)
}

// askOthers asks the authorities in turn, until one issues.
func (c *Certificates) askOthers(ctx context.Context, r enrol.Renewal) ([]*x509.Certificate, error) {
	var errs []error
	for _, name := range c.conf.Roll.Authorities() {
		host, ok := c.conf.Roll.Node(name)
		if !ok {
			continue
		}
		chain, err := c.askOne(ctx, name, host, r)
		if err == nil {
			return chain, nil
		}
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		return nil, errors.New("no authority is known yet")
	}
	return nil, errors.Join(errs...)
}

func (c *Certificates) askOne(ctx context.Context, name identity.Name, host statement.Node, r enrol.Renewal) ([]*x509.Certificate, error) {
	addr, err := netip.ParseAddr(host.Address)
	if err != nil {
		return nil, fmt.Errorf("authority %s: %w", name, err)
	}
	conf := identity.ClientTLS(c, identity.ALPNIssue, identity.NodeID(c.Bundle().TrustDomain(), name), c.conf.Check)
	out, err := enrol.Renew(ctx, netip.AddrPortFrom(addr, host.LanePort), conf, r)
	if err != nil {
		return nil, err
	}
	return identity.DecodeChain(out.Chain)
}
