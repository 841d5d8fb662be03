// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Sentry knows cheaply whether this network namespace's routes, rules and chains may have changed: the kernel says so of
// routes, addresses and links, and nftables numbers its rulesets. Where it can't be known cheaply (rules of the legacy
// backend, and whatever the kernel forgets to say of IPv4), it looks every few seconds anyway.
type Sentry struct {
	mu      sync.Mutex
	notices int // rtnetlink's multicast, not blocking
	legacy  bool

	rules                ruleset // that Drift has found right
	rulesDue, routesDue  bool
	rulesSeen, routeSeen time.Time
	shadowsDue           bool
	shadows              []Shadow
}

// Longest times between two looks.
const (
	routesAnyway = 3 * time.Second
	rulesAnyway  = 3 * time.Second // of the legacy backend
)

// multicast groups of rtnetlink (linux/rtnetlink.h): whatever can make a route of ours go. Routes that go with a link or
// an address go without a word in IPv4.
const noticed = 1<<(unix.RTNLGRP_LINK-1) | 1<<(unix.RTNLGRP_IPV4_IFADDR-1) | 1<<(unix.RTNLGRP_IPV6_IFADDR-1) |
	1<<(unix.RTNLGRP_IPV4_ROUTE-1) | 1<<(unix.RTNLGRP_IPV6_ROUTE-1) | 1<<(unix.RTNLGRP_IPV4_RULE-1) | 1<<(unix.RTNLGRP_IPV6_RULE-1)

// NewSentry begins to listen in the calling thread's network namespace. Its first look is a whole one.
func NewSentry() (*Sentry, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("watch routes: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: noticed}); err != nil {
		return nil, errors.Join(fmt.Errorf("watch routes: %w", err), unix.Close(fd))
	}
	return &Sentry{notices: fd, legacy: usesLegacy(), rulesDue: true, routesDue: true, shadowsDue: true}, nil
}

// Close ends it.
func (s *Sentry) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return unix.Close(s.notices)
}

// Drift is [Drift], at the cost of a few system calls where nothing can have changed.
func (s *Sentry) Drift(p Plan) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	rules := readRuleset(s.legacy)
	s.rulesDue = s.rulesDue || rules != s.rules || (s.legacy && now.Sub(s.rulesSeen) >= rulesAnyway)
	s.listen(now)
	if s.rulesDue {
		lines, err := Drift(p)
		if err == nil && len(lines) == 0 {
			s.rules, s.rulesDue, s.rulesSeen, s.routesDue, s.routeSeen = rules, false, now, false, now
		}
		return lines, err
	}
	if !s.routesDue {
		return nil, nil
	}
	lines, err := driftOfRoutes(kernelHost{}, p)
	s.routesDue, s.routeSeen = err != nil || len(lines) > 0, now
	return lines, err
}

// listen reads what the kernel has said since.
func (s *Sentry) listen(now time.Time) {
	said := now.Sub(s.routeSeen) >= routesAnyway
	var buf [1]byte
	for {
		_, _, err := unix.Recvfrom(s.notices, buf[:], unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EAGAIN) {
			break
		}
		said = true
		if err != nil && !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EINTR) {
			break // the timer looks
		}
	}
	s.routesDue, s.shadowsDue = s.routesDue || said, s.shadowsDue || said
}

// driftOfRoutes is [drift] without the chains.
func driftOfRoutes(h host, p Plan) ([]string, error) {
	var d difference
	if err := errors.Join(compareRoutes(&d, h, p), compareRules(&d, h, p)); err != nil {
		return nil, err
	}
	var out []string
	for _, s := range d.missing {
		out = append(out, "missing: "+s.text)
	}
	for _, s := range d.stale {
		out = append(out, "left over: "+s.text)
	}
	return out, nil
}

// usesLegacy says whether iptables or ip6tables talks to the old backend, of whose changes nobody is told.
func usesLegacy() bool {
	for _, program := range []string{"iptables", "ip6tables"} {
		version, err := exec.Command(program, "--version").Output()
		if err == nil && !strings.Contains(string(version), "nf_tables") {
			return true
		}
	}
	return false
}

// ruleset is what changes when rules do.
type ruleset struct {
	generation uint32 // of nftables; 0: this kernel has none, or no rules
	legacy     string // number and size of the rules in the tables that can have ours
}

// Numbers of nftables' netlink protocol (linux/netfilter/nf_tables.h).
const (
	nfGetGeneration    = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETGEN
	nfGenerationNumber = 1 // NFTA_GEN_ID, in network order
)

func readRuleset(legacy bool) ruleset {
	out := ruleset{generation: generation()}
	if legacy {
		out.legacy = legacySizes()
	}
	return out
}

// nfHeader is struct nfgenmsg: no family, version 0.
type nfHeader struct{}

func (nfHeader) Len() int          { return 4 }
func (nfHeader) Serialize() []byte { return make([]byte, 4) }

func generation() uint32 {
	request := nl.NewNetlinkRequest(nfGetGeneration, 0)
	request.AddData(nfHeader{})
	messages, err := request.Execute(unix.NETLINK_NETFILTER, 0)
	if err != nil {
		return 0
	}
	for _, m := range messages {
		attrs, err := nl.ParseRouteAttr(m[min(4, len(m)):])
		if err != nil {
			continue
		}
		for _, a := range attrs {
			if a.Attr.Type == nfGenerationNumber && len(a.Value) == 4 {
				return uint32(a.Value[0])<<24 | uint32(a.Value[1])<<16 | uint32(a.Value[2])<<8 | uint32(a.Value[3])
			}
		}
	}
	return 0
}
