// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"tacit/identity"
)

// shadowTime bounds what looking for shadowed names may take.
const shadowTime = 300 * time.Millisecond

// Shadows asks a resolver what a service's bare name means outside of the mesh,
// alone and below the search suffixes of the host, and returns one sentence for
// each name that exists. A resolver that is slow or fails is no news.
func (s *Server) Shadows(ctx context.Context, name identity.Name, resolver netip.AddrPort, search []string) []string {
	ctx, cancel := context.WithTimeout(ctx, shadowTime)
	defer cancel()
	return s.shadows(ctx, name, resolver, append([]string{""}, search...))
}

func (s *Server) shadows(ctx context.Context, name identity.Name, resolver netip.AddrPort, suffixes []string) []string {
	found := make([]string, len(suffixes))
	var wait sync.WaitGroup
	for i, suffix := range suffixes {
		full := strings.TrimSuffix(string(name)+"."+suffix, ".")
		if s.ownDomain(full) {
			continue
		}
		wait.Go(func() {
			if addr := s.lookUp(ctx, full, resolver); addr != "" {
				found[i] = s.shadow(name, full, addr)
			}
		})
	}
	wait.Wait()
	return slices.DeleteFunc(found, func(text string) bool { return text == "" })
}

// ShadowLog logs what the names of services mean outside of the mesh, once for
// each name. It doesn't ask for names that are the mesh's by now: such queries
// don't leave the host any more.
type ShadowLog struct {
	Names *Server
	// Resolvers and Search are those of the host, as they are now.
	Resolvers func() []netip.Addr
	Search    func() []string
	Log       *slog.Logger

	mu   sync.Mutex
	seen map[identity.Name]bool
}

// Note looks in the background at the names that are new, and forgets those that
// are missing.
func (l *ShadowLog) Note(names []identity.Name) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := make(map[identity.Name]bool, len(names))
	for _, name := range names {
		now[name] = true
		if !l.seen[name] {
			go l.look(name)
		}
	}
	l.seen = now
}

func (l *ShadowLog) look(name identity.Name) {
	resolvers := l.Resolvers()
	if len(resolvers) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), shadowTime)
	defer cancel()
	others := slices.DeleteFunc(l.Search(), func(suffix string) bool { return l.Names.bare(splitName(string(name) + "." + suffix)) })
	for _, text := range l.Names.shadows(ctx, name, netip.AddrPortFrom(resolvers[0], 53), others) {
		l.Log.Warn(text, "service", name)
	}
}

// Ask is Shadows by the host's first resolver, for a name that isn't a service's yet.
func (l *ShadowLog) Ask(ctx context.Context, name identity.Name) []string {
	if resolvers := l.Resolvers(); len(resolvers) > 0 {
		return l.Names.Shadows(ctx, name, netip.AddrPortFrom(resolvers[0], 53), l.Search())
	}
	return nil
}

// shadow says what it means that a name exists outside.
func (s *Server) shadow(name identity.Name, full, addr string) string {
	if s.bare(splitName(full)) {
		return fmt.Sprintf("%s exists outside of the mesh (%s), and programs on all nodes now reach the service %s by this name instead", full, addr, name)
	}
	return fmt.Sprintf("%s exists outside of the mesh (%s) and stays as it is: programs that use the bare name %s reach it first, by the search list of resolv.conf; "+
		"let them call %s, or list the suffix with --search", full, addr, name, trimDot(s.pointer(name)))
}

func trimDot(name string) string { return name[:len(name)-1] }

func (s *Server) ownDomain(name string) bool {
	for _, d := range s.domains {
		if _, ok := cutSuffix(splitName(name), d.labels); ok {
			return true
		}
	}
	return false
}

// lookUp returns the first address that a resolver has for a name, "" for none.
func (s *Server) lookUp(ctx context.Context, name string, resolver netip.AddrPort) string {
	for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
		raw, err := new(dns.Msg).SetQuestion(dns.Fqdn(name), qtype).Pack()
		if err != nil {
			return ""
		}
		q, err := parseQuestion(raw)
		if err != nil {
			return ""
		}
		reply, err := askUDP(ctx, raw, q, nil, resolver)
		if err != nil {
			return ""
		}
		found := ""
		eachRecord(reply, func(rrtype uint16, data []byte) {
			if addrs := addressesIn(rrtype, data); rrtype == qtype && len(addrs) > 0 {
				found = addrs[0].String()
			}
		})
		if found != "" {
			return found
		}
	}
	return ""
}
