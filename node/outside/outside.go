// SPDX-License-Identifier: Apache-2.0

// Package outside reaches services outside of the mesh: it knows what their real
// names resolve to, and connects to them. It must not decide who may call them, nor
// connect to what can't be outside: this host, a member, a virtual address.
package outside

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"tacit/identity"
	"tacit/node/catalog"
	"tacit/node/definition"
	"tacit/node/definition/external"
	"tacit/node/dns/client"
	"tacit/node/health"
	"tacit/node/seen"
	"tacit/policy/ledger/statement"
)

// Health learns which names don't resolve.
type Health interface {
	Replace(f health.Family, now map[string]error)
}

// Config is what a Reach works with. Changed must neither block nor call the Reach.
type Config struct {
	Resolvers func() []netip.Addr                       // of the host, as they are now
	Tag       func(fd int, service identity.Name) error // marks a socket as one that asks for the service's addresses
	Dial      func(seen.Call) (seen.Dialled, error)
	Own       func() []netip.Addr                            // this host's own addresses
	Member    func(netip.Addr) (node identity.Name, is bool) // whose address it is
	Ranges    []netip.Prefix                                 // of virtual addresses
	Changed   func()                                         // an instance can be reached now, or can't any more
	Health    Health
	Log       *slog.Logger
}

// Reach is safe for concurrent use.
type Reach struct {
	conf Config
	look func(ctx context.Context, service identity.Name, host string) (client.Answer, error)
	wake chan struct{}

	mu        sync.Mutex
	instances []catalog.Instance
	names     map[string]*name
}

// New returns a Reach that follows nothing yet.
func New(c Config) *Reach {
	r := &Reach{conf: c, wake: make(chan struct{}, 1), names: map[string]*name{}}
	r.look = func(ctx context.Context, service identity.Name, host string) (client.Answer, error) {
		ask := client.Client{Mark: func(fd int) error { return c.Tag(fd, service) }}
		return ask.Look(ctx, host, c.Resolvers())
	}
	return r
}

// Judge says why an address can't be outside of the mesh; nil: it can.
func (r *Reach) Judge(a netip.Addr) error {
	a = a.Unmap()
	if err := external.Impossible(a); err != nil {
		return err
	}
	if slices.ContainsFunc(r.conf.Ranges, func(v netip.Prefix) bool { return v.Contains(a) }) {
		return fmt.Errorf("%s is a virtual address of the mesh", a)
	}
	if slices.Contains(r.conf.Own(), a) {
		return fmt.Errorf("%s is this node's own address", a)
	}
	if node, is := r.conf.Member(a); is {
		return fmt.Errorf("%s is the address of the node %s", a, node)
	}
	return nil
}

// Follow takes over which instances this node reaches by itself.
func (r *Reach) Follow(list []catalog.Instance) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.instances = list
	wanted := map[string]identity.Name{}
	for _, in := range list {
		if len(in.Outside.Addresses) == 0 {
			for _, host := range in.Outside.Hosts {
				wanted[host] = in.Service
			}
		}
	}
	for host := range r.names {
		if _, stays := wanted[host]; !stays {
			delete(r.names, host)
		}
	}
	for host, service := range wanted {
		if r.names[host] == nil {
			r.names[host] = &name{host: host, service: service}
			r.nudge()
		}
	}
}

// Down is why an instance of this node can't be reached, as in
// statement.Instance.Down; "": it can, or that isn't known yet.
func (r *Reach) Down(id string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, in := range r.instances {
		if !in.Here || in.ID != id {
			continue
		}
		if to, known, _ := r.addresses(in); known && len(to) == 0 {
			return statement.DownAddress
		}
	}
	return ""
}

// Addresses are where an instance is reached now, at least one. The error says why
// there is none.
func (r *Reach) Addresses(ctx context.Context, in catalog.Instance) ([]netip.AddrPort, error) {
	r.mu.Lock()
	to, known, err := r.addresses(in)
	r.mu.Unlock()
	if !known { // it is new: the answer is waited for
		for _, host := range in.Outside.Hosts {
			r.resolve(ctx, host)
		}
		r.mu.Lock()
		to, _, err = r.addresses(in)
		r.mu.Unlock()
	}
	if len(to) == 0 {
		return nil, fmt.Errorf("no address of %s is known: %w", in.Service, cmp.Or(err, errors.New("its names haven't been looked up yet")))
	}
	return to, nil
}

// Known are the addresses of an instance that are known now.
func (r *Reach) Known(in catalog.Instance) []netip.AddrPort {
	r.mu.Lock()
	defer r.mu.Unlock()
	to, _, _ := r.addresses(in)
	return to
}

// ByID is Addresses for an instance of this node.
func (r *Reach) ByID(id string) ([]netip.AddrPort, error) {
	r.mu.Lock()
	k := slices.IndexFunc(r.instances, func(in catalog.Instance) bool { return in.Here && in.ID == id })
	if k < 0 {
		r.mu.Unlock()
		return nil, fmt.Errorf("%s isn't in force on this node", id)
	}
	in := r.instances[k]
	r.mu.Unlock()
	return r.Addresses(context.Background(), in)
}

// addresses are those that can be outside; known: all names of the instance have
// been looked up. The error says what is wrong with the others. The caller holds mu.
func (r *Reach) addresses(in catalog.Instance) (to []netip.AddrPort, known bool, err error) {
	known = true
	for _, text := range in.Outside.Addresses {
		if at, bad := netip.ParseAddrPort(text); bad == nil {
			to = append(to, at)
		}
	}
	if len(to) == 0 {
		for _, host := range in.Outside.Hosts {
			n := r.names[host]
			if n == nil || !n.known {
				known = false
				continue
			}
			err = errors.Join(err, n.err)
			for _, addr := range n.addrs {
				to = append(to, netip.AddrPortFrom(addr, in.Port))
			}
		}
	}
	to = slices.DeleteFunc(to, func(at netip.AddrPort) bool {
		no := r.Judge(at.Addr())
		err = errors.Join(err, no)
		return no != nil
	})
	return to, known, err
}

// Dial connects to an instance: to its addresses in order, each with its share of
// the time that is left. Only a connection to its only address isn't waited for.
func (r *Reach) Dial(ctx context.Context, in catalog.Instance, c seen.Call) (seen.Dialled, error) {
	all, err := r.Addresses(ctx, in)
	if err != nil {
		return seen.Dialled{FD: -1}, err
	}
	c.Outside, c.Show = true, definition.ClientService
	if in.Outside.Header {
		c.Show = definition.ClientProxyProtocol
	}
	if c.To = all[0]; len(all) == 1 {
		return r.conf.Dial(c)
	}
	var errs []error
	for i, to := range all {
		c.To = to
		conn, err := r.dial(ctx, c, len(all)-i)
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	return seen.Dialled{FD: -1}, errors.Join(errs...)
}

// dial tries one of the addresses that are left, and waits for the answer.
func (r *Reach) dial(ctx context.Context, c seen.Call, left int) (seen.Dialled, error) {
	if end, limited := ctx.Deadline(); limited {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(end)/time.Duration(left))
		defer cancel()
	}
	begun, err := r.conf.Dial(c)
	if err != nil {
		return begun, err
	}
	conn, err := begun.Wait(ctx)
	if err != nil {
		err = fmt.Errorf("dial tcp %s: %w", c.To, err)
	}
	return conn, err
}

func (r *Reach) nudge() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}
