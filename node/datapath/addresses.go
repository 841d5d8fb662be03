// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"tacit/node/health"
	"tacit/policy/shortage"
	"tacit/redirect/links"
)

// relist is how often a host's addresses are listed again in case a notice of
// the kernel was lost, and while descriptors or memory were short at the last look:
// status says so until one succeeds.
const (
	relist      = 10 * time.Second
	relistShort = 500 * time.Millisecond
)

// Addresses are this host's own, besides loopback. Connections to one of them
// and a service's port are judged as calls of that service.
type Addresses struct {
	own    netip.Addr // --address, which counts in any case
	health Health
	find   func() ([]netip.Addr, error)

	mu   sync.Mutex
	list []netip.Addr
	next time.Duration // until the next look
}

// NewAddresses lists them for the first time.
func NewAddresses(own netip.Addr, h Health) *Addresses {
	a := &Addresses{own: own, health: h, find: links.LocalAddrs, list: []netip.Addr{own}}
	a.look()
	return a
}

// List is the addresses as last listed.
func (a *Addresses) List() []netip.Addr {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.list
}

// Run calls changed when they have changed, until ctx ends. It fails where the
// kernel's notices can't be received.
func (a *Addresses) Run(ctx context.Context, changed func()) error {
	noticed, ended := make(chan struct{}, 1), make(chan error, 1)
	go func() { ended <- links.WatchAddrs(ctx, noticed) }()
	for {
		select {
		case <-noticed:
		case <-time.After(a.due()):
		case err := <-ended:
			return err
		}
		if a.look() {
			changed()
		}
	}
}

func (a *Addresses) due() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.next
}

// look lists the addresses. While they can't be listed the last known ones
// count: an address that is missing would leave its ports unjudged.
func (a *Addresses) look() (changed bool) {
	found, err := a.find()
	a.health.Set(health.Addresses, "", err)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.next = relist; shortage.Is(err) {
		a.next = relistShort
	}
	if err != nil {
		return false
	}
	found = append(found, a.own)
	changed = !slices.Equal(a.list, found)
	a.list = found
	return changed
}
