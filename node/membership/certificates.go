// SPDX-License-Identifier: Apache-2.0

package membership

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"tacit/identity"
	"tacit/node/config"
	"tacit/node/enrol"
	"tacit/node/health"
)

// Health learns which certificates can't be renewed.
type Health interface {
	Set(f health.Family, thing string, err error) (news bool)
}

// CertificatesConfig is what the certificate manager works with.
type CertificatesConfig struct {
	Member   *Member
	Settings *config.Settled
	Roll     Roll
	Issuer   LocalIssuer        // of this node; used where Member.Authority is set
	Check    identity.PeerCheck // of the authorities that are asked
	Health   Health
	Log      *slog.Logger
	Now      func() time.Time // the wall clock; nil: this host's
	Renew    RenewFunc        // nil: enrol.Renew
}

// RenewFunc asks the authority at an address for a certificate.
type RenewFunc func(ctx context.Context, at netip.AddrPort, conf *tls.Config, r enrol.Renewal) (*enrol.Issued, error)

// Certificates is the certificate manager: it holds the certificates in use,
// the node's and those of the services that it runs, answers from memory, and
// renews each at half life. It is safe for concurrent use.
type Certificates struct {
	conf CertificatesConfig
	node atomic.Pointer[identity.SVID]
	kept atomic.Pointer[identity.SVID] // the node's certificate on disk

	mu       sync.Mutex // guards the fields below
	services map[identity.Name]*identity.SVID
	wanted   map[identity.Name]bool

	wake   chan struct{}
	spread float64 // this node's place in the spread of renewals, in [0, 1)
}

// NewCertificates begins with the member's certificate, and none of services.
func NewCertificates(conf CertificatesConfig) *Certificates {
	if conf.Now == nil {
		conf.Now = time.Now
	}
	if conf.Renew == nil {
		conf.Renew = enrol.Renew
	}
	c := &Certificates{conf: conf, services: map[identity.Name]*identity.SVID{}, wake: make(chan struct{}, 1), spread: rand.Float64()}
	c.node.Store(conf.Member.SVID)
	if !conf.Member.Fresh {
		c.kept.Store(conf.Member.SVID)
	}
	return c
}

// NodeSVID is the node's certificate as it is now.
func (c *Certificates) NodeSVID() *identity.SVID { return c.node.Load() }

// Bundle is the mesh's roots.
func (c *Certificates) Bundle() *identity.Bundle { return c.conf.Member.Bundle }

// ServiceSVID returns the certificate that proves the service on lanes.
func (c *Certificates) ServiceSVID(name identity.Name) (*identity.SVID, error) {
	if s := c.held(name); s != nil && c.conf.Now().Before(s.Chain[0].NotAfter) {
		return s, nil
	}
	return nil, fmt.Errorf("no certificate for service %s yet: an authority must answer first", name)
}

func (c *Certificates) held(name identity.Name) *identity.SVID {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.services[name]
}

// Want makes sure that the named services, and no others, have certificates, none
// of them by a revoked key. It doesn't wait for them.
func (c *Certificates) Want(names []identity.Name) {
	c.mu.Lock()
	defer c.mu.Unlock()
	wanted := map[identity.Name]bool{}
	for _, name := range names {
		wanted[name] = true
	}
	had := len(c.services)
	maps.DeleteFunc(c.services, func(name identity.Name, s *identity.SVID) bool { return !wanted[name] || c.revoked(s) })
	if maps.Equal(wanted, c.wanted) && len(c.services) == had && !c.revoked(c.NodeSVID()) {
		return
	}
	c.wanted = wanted
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// revoked says whether the certificate's key, or that of its authority, is revoked.
func (c *Certificates) revoked(s *identity.SVID) bool {
	return slices.ContainsFunc(identity.ChainKeys(s.Chain), c.conf.Roll.Revoked)
}

func (c *Certificates) wants() []identity.Name {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.wanted))
}

// put brings a service's certificate into use, unless it isn't wanted any more.
func (c *Certificates) put(name identity.Name, s *identity.SVID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wanted[name] {
		c.services[name] = s
	}
}

// Served is a certificate in use.
type Served struct {
	ID                  identity.ID
	Key                 identity.KeyID
	NotBefore, NotAfter time.Time
	RenewAt             time.Time
}

// Served lists the certificates in use: the node's, then those of services, by
// name, without the expired ones.
func (c *Certificates) Served() []Served {
	out := []Served{c.served(c.NodeSVID())}
	for _, name := range c.wants() {
		if s, err := c.ServiceSVID(name); err == nil {
			out = append(out, c.served(s))
		}
	}
	return out
}

func (c *Certificates) served(s *identity.SVID) Served {
	return Served{s.ID, s.Key.ID(), s.Chain[0].NotBefore, s.Chain[0].NotAfter, s.RenewAt(c.spread)}
}

// Check returns what is wrong with the certificates now: the node's isn't
// valid, or a wanted service has none.
func (c *Certificates) Check() error {
	now := c.conf.Now()
	if leaf := c.NodeSVID().Chain[0]; now.After(leaf.NotAfter) || now.Before(leaf.NotBefore) {
		return fmt.Errorf("the node's certificate is valid from %s to %s", leaf.NotBefore, leaf.NotAfter)
	}
	for _, name := range c.wants() {
		if _, err := c.ServiceSVID(name); err != nil {
			return err
		}
	}
	return nil
}
