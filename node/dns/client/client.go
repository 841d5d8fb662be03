// SPDX-License-Identifier: Apache-2.0

// Package client asks resolvers for the addresses of a name, as a C library does,
// and says how long they hold. It must not know whose name it is, nor keep an
// answer.
package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

const (
	tryTimeout = 2 * time.Second // for each resolver
	port       = 53
	ednsSize   = 1232
)

// ErrNoAddress: a resolver has answered that the name has no address.
var ErrNoAddress = errors.New("has no address")

// Client asks resolvers. Mark prepares each of its sockets.
type Client struct {
	Mark func(fd int) error
}

// Answer is what a name resolves to, IPv4 first, and how long that holds.
type Answer struct {
	Addrs []netip.Addr
	TTL   time.Duration
}

// Look asks the resolvers in order until one answers. Errors: ErrNoAddress, or why
// none of them answered.
func (c Client) Look(ctx context.Context, host string, resolvers []netip.Addr) (Answer, error) {
	err := errors.New("resolv.conf names no resolver")
	for _, r := range resolvers {
		var a Answer
		try, cancel := context.WithTimeout(ctx, tryTimeout)
		a, err = c.ask(try, dns.Fqdn(host), netip.AddrPortFrom(r, port))
		cancel()
		if err == nil || errors.Is(err, ErrNoAddress) || ctx.Err() != nil {
			return a, err
		}
	}
	return Answer{}, err
}

// ask asks one resolver for both families at once. What one of them gives is
// enough.
func (c Client) ask(ctx context.Context, host string, resolver netip.AddrPort) (out Answer, err error) {
	types := [2]uint16{dns.TypeA, dns.TypeAAAA}
	var answers [2]Answer
	var errs [2]error
	var wait sync.WaitGroup
	for i, t := range types {
		wait.Go(func() { answers[i], errs[i] = c.query(ctx, host, t, resolver) })
	}
	wait.Wait()
	for i, a := range answers {
		if len(a.Addrs) > 0 && (len(out.Addrs) == 0 || a.TTL < out.TTL) {
			out.TTL = a.TTL
		}
		out.Addrs = append(out.Addrs, a.Addrs...)
		if !errors.Is(errs[i], ErrNoAddress) {
			err = cmp.Or(errs[i], err)
		}
	}
	if len(out.Addrs) > 0 {
		return out, nil
	}
	return out, cmp.Or(err, ErrNoAddress)
}

// query asks for one family, by TCP where the answer by UDP was cut.
func (c Client) query(ctx context.Context, host string, qtype uint16, resolver netip.AddrPort) (Answer, error) {
	m := new(dns.Msg).SetQuestion(host, qtype).SetEdns0(ednsSize, false)
	var r *dns.Msg
	for _, network := range []string{"udp", "tcp"} {
		var err error
		if r, err = c.exchange(ctx, m, network, resolver); err != nil {
			return Answer{}, fmt.Errorf("resolver %s: %w", resolver.Addr(), err)
		}
		if !r.Truncated {
			break
		}
	}
	if r.Rcode != dns.RcodeSuccess && r.Rcode != dns.RcodeNameError {
		return Answer{}, fmt.Errorf("resolver %s: %s", resolver.Addr(), dns.RcodeToString[r.Rcode])
	}
	a := addresses(r, host, qtype)
	if len(a.Addrs) == 0 {
		return a, ErrNoAddress
	}
	return a, nil
}

// exchange makes one query from a new socket.
func (c Client) exchange(ctx context.Context, m *dns.Msg, network string, resolver netip.AddrPort) (*dns.Msg, error) {
	d := &net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		return errors.Join(raw.Control(func(fd uintptr) { err = c.Mark(int(fd)) }), err)
	}}
	d.SetMultipathTCP(false)
	one := dns.Client{Net: network, Dialer: d, Timeout: tryTimeout}
	r, _, err := one.ExchangeContext(ctx, m, resolver.String())
	if err != nil {
		return nil, err
	}
	if len(r.Question) != 1 || r.Question[0].Qtype != m.Question[0].Qtype || !strings.EqualFold(r.Question[0].Name, m.Question[0].Name) {
		return nil, errors.New("the answer is to another question")
	}
	return r, nil
}

// addresses are those of the host and of the names that it is another one for.
func addresses(r *dns.Msg, host string, qtype uint16) (out Answer) {
	names, ttl := []string{strings.ToLower(host)}, uint32(math.MaxInt32)
	for range r.Answer { // aliases may come in any order
		for _, rr := range r.Answer {
			alias, ok := rr.(*dns.CNAME)
			if to := strings.ToLower(aliasTo(alias)); ok && slices.Contains(names, strings.ToLower(rr.Header().Name)) && !slices.Contains(names, to) {
				names, ttl = append(names, to), min(ttl, rr.Header().Ttl)
			}
		}
	}
	for _, rr := range r.Answer {
		addr, ok := addressOf(rr)
		if ok && rr.Header().Rrtype == qtype && slices.Contains(names, strings.ToLower(rr.Header().Name)) {
			out.Addrs, ttl = append(out.Addrs, addr), min(ttl, rr.Header().Ttl)
		}
	}
	out.TTL = time.Duration(ttl) * time.Second
	return out
}

func aliasTo(alias *dns.CNAME) string {
	if alias == nil {
		return ""
	}
	return alias.Target
}

func addressOf(rr dns.RR) (netip.Addr, bool) {
	var addr netip.Addr
	var ok bool
	switch rr := rr.(type) {
	case *dns.A:
		addr, ok = netip.AddrFromSlice(rr.A)
	case *dns.AAAA:
		addr, ok = netip.AddrFromSlice(rr.AAAA)
	}
	return addr.Unmap(), ok
}
