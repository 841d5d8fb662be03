// SPDX-License-Identifier: Apache-2.0

// Package dns answers queries for the mesh's names and forwards every other query,
// byte for byte, to the resolver that it was sent to. Only this room imports the
// DNS library. It must not cache, must not touch the host's resolver files, must
// never send a mesh name to an upstream, and must never pass on an upstream's
// answer that leads to a virtual address.
package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"tacit/identity"
)

const (
	maxInflight  = 512             // concurrent forwarded queries of one Server
	maxConns     = 256             // TCP clients of one Server
	maxPipelined = 16              // concurrent queries of one TCP client
	tryTimeout   = 2 * time.Second // for each UDP try at an upstream; twice that for a TCP exchange
	udpTries     = 2
	idleTimeout  = 10 * time.Second // between the queries of a TCP client
)

// Config of a Server.
type Config struct {
	Zone          Zone
	Self          identity.Name                             // this node, the name server of its answers
	Domains       []string                                  // of the mesh, besides consul: all names below them are the mesh's
	Search        []string                                  // suffixes below which a service's bare name is the mesh's as well
	Datacenter    string                                    // what the mesh is called in Consul's names
	ForwardConsul bool                                      // names below consul that the mesh doesn't have are forwarded
	Ranges        []netip.Prefix                            // of virtual addresses
	Sender        Sender                                    // nil: who asks isn't known, and all clients share one limit
	Tag           func(fd int, service identity.Name) error // marks a socket that asks for the real name of an outside service
	Log           *slog.Logger                              // nil: nothing is logged
}

// Server answers and forwards queries. It is safe for concurrent use, with any
// number of listeners.
type Server struct {
	zone          Zone
	self          identity.Name
	domains       []domain
	search        [][]string
	datacenter    string
	forwardConsul bool
	ranges        []netip.Prefix
	senders       *senders
	tag           func(fd int, service identity.Name) error
	log           *slog.Logger
	inflight      *gate // queries that are being forwarded
	conns         *gate // TCP clients
	refusing      refusing
	rebinding     atomic.Uint64
	timeout       time.Duration // tryTimeout, shorter in tests
}

// New returns a server; nothing runs until Serve or Exchange.
func New(cfg Config) *Server {
	s := &Server{
		zone: cfg.Zone, self: cfg.Self, datacenter: lower(cfg.Datacenter), forwardConsul: cfg.ForwardConsul, ranges: cfg.Ranges,
		senders: newSenders(cfg.Sender), tag: cfg.Tag, log: cfg.Log, timeout: tryTimeout, inflight: newGate(maxInflight, maxRate), conns: newGate(maxConns, 0),
	}
	for _, d := range append([]string{"consul"}, cfg.Domains...) {
		if labels := splitName(d); len(labels) > 0 {
			text := joined(labels)
			if text == "consul." && len(s.domains) > 0 {
				continue // always the first
			}
			s.domains = append(s.domains, domain{labels: labels, text: text, consul: text == "consul."})
		}
	}
	for _, suffix := range cfg.Search {
		if labels := splitName(suffix); len(labels) > 0 {
			s.search = append(s.search, labels)
		}
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	return s
}

// Serve takes the place of one resolver, upstream, on a UDP socket and a TCP
// listener (either may be nil) until ctx ends. Then it closes both, waits for
// running queries, and returns nil.
func (s *Server) Serve(ctx context.Context, udp net.PacketConn, tcp net.Listener, upstream netip.AddrPort) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := checkUpstream(udp, tcp, upstream); err != nil {
		return errors.Join(err, closeBoth(udp, tcp))
	}
	stop := context.AfterFunc(ctx, func() { _ = closeBoth(udp, tcp) })
	var wait sync.WaitGroup
	errs := make(chan error, 2)
	run := func(serve func() error) {
		wait.Go(func() {
			errs <- serve()
			cancel() // when one ends, the other must, too
		})
	}
	if udp != nil {
		run(func() error { return s.serveUDP(ctx, udp, upstream) })
	}
	if tcp != nil {
		run(func() error { return s.serveTCP(ctx, tcp, upstream) })
	}
	<-ctx.Done()
	if stop() {
		_ = closeBoth(udp, tcp)
	}
	wait.Wait()
	close(errs)
	return errors.Join(<-errs, <-errs)
}

// checkUpstream refuses an upstream that is the server itself.
func checkUpstream(udp net.PacketConn, tcp net.Listener, upstream netip.AddrPort) error {
	if (udp != nil && udp.LocalAddr().String() == upstream.String()) || (tcp != nil && tcp.Addr().String() == upstream.String()) {
		return fmt.Errorf("resolver %s is this DNS server itself: forwarding would loop", upstream)
	}
	return nil
}

func closeBoth(udp net.PacketConn, tcp net.Listener) error {
	var errs [2]error
	if udp != nil {
		errs[0] = udp.Close()
	}
	if tcp != nil {
		errs[1] = tcp.Close()
	}
	return errors.Join(errs[:]...)
}

// pause waits a little after a socket error; false means that ctx ended.
func pause(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(20 * time.Millisecond):
		return true
	}
}
