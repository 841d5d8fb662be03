// SPDX-License-Identifier: Apache-2.0

package peers

import (
	"crypto/tls"
	"net/netip"
	"slices"
	"sync"
	"time"

	"tacit/identity"
	"tacit/policy"
)

// noProtocol is the alert no_application_protocol (RFC 7301) as a record of its
// own: crypto/tls would send internal_error.
func noProtocol() []byte { return []byte{21, 3, 3, 0, 2, 2, 120} }

// greet refuses by the first message, before any key is exchanged or anything
// signed, what this node has nothing for.
func (p *Peers) greet(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	wants := func(alpn string) bool { return slices.Contains(hello.SupportedProtos, alpn) }
	var why policy.Reason
	switch {
	case wants(identity.ALPNLane), wants(identity.ALPNHere):
	case !wants(identity.ALPNEnrol) && !wants(identity.ALPNIssue):
		why = policy.ReasonHandshake
	case !p.conf.Issuer.Issues():
		why = policy.ReasonAuthority
	}
	if why == "" {
		return nil, nil
	}
	_, _ = hello.Conn.Write(noProtocol()) // a peer that doesn't get it learns of the refusal by the end
	return nil, policy.Refuse(why, "protocols %.64q", hello.SupportedProtos)
}

// homesFor is how long a look at the records is good for.
const homesFor = time.Second

// homes are the members and their addresses, by their records. Only the first
// address of each counts: what else a record lists is not proven, and one member
// shall not vouch for many addresses.
type homes struct {
	roll Roll

	mu      sync.Mutex
	at      time.Time
	of      map[netip.Addr]bool
	members map[identity.Name]bool
}

// Home says whether a member's record says that it is there.
func (h *homes) Home(a netip.Addr) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.look()
	return h.of[a]
}

// Member says whether a node is in the mesh.
func (h *homes) Member(node identity.Name) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.look()
	return h.members[node]
}

// look reads the records where that was long ago. It is called with mu held.
func (h *homes) look() {
	now := time.Now()
	if h.of != nil && now.Sub(h.at) < homesFor {
		return
	}
	h.at, h.of, h.members = now, map[netip.Addr]bool{}, map[identity.Name]bool{}
	for _, m := range h.roll.Members() {
		h.members[m.Node] = true
		host, _ := h.roll.Node(m.Node)
		if addr, err := netip.ParseAddr(host.Address); err == nil {
			h.of[addr.Unmap()] = true
		}
	}
}
