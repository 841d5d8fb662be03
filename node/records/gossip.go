// SPDX-License-Identifier: Apache-2.0

package records

import (
	"encoding/json"
	"fmt"
	"net/netip"

	"tacit/identity"
	"tacit/policy/ledger"
)

// message is what travels between nodes, in a broadcast and in an exchange of
// full state alike. A field that a node doesn't know is ignored.
type message struct {
	Records   []ledger.Record            `json:"records,omitempty"`
	Revisions map[identity.Name]Revision `json:"revisions,omitempty"`
	Full      bool                       `json:"full,omitempty"` // it is all that its sender knows
}

// State is everything that this node knows, for an exchange of full state.
func (r *Records) State() []byte {
	payload, err := json.Marshal(message{Records: r.conf.Ledger.Records(), Revisions: r.Revisions(), Full: true})
	if err != nil {
		r.conf.Log.Error("the state can't be encoded", "err", err)
	}
	return payload
}

// Exchanged is closed once another node has told all that it knows, or nobody is to be
// waited for.
func (r *Records) Exchanged() <-chan struct{} { return r.gate.opened }

// Merge takes a message that a member has sent. It passes on what is new, and returns
// how much of the message no honest member sends: forged records, or a text that can't
// be read.
func (r *Records) Merge(from identity.Name, payload []byte) (forged int) {
	m, forged, err := r.takeFrom(payload)
	if err != nil {
		r.conf.Log.Debug("an unreadable message came by gossip", "from", from, "err", err)
		return max(forged, 1)
	}
	if m.Full {
		r.reached()
	}
	news := map[identity.Name]Revision{}
	for node, rev := range m.Revisions {
		if r.hear(node, rev) {
			news[node] = rev
		}
	}
	if len(news) > 0 {
		r.send(message{Revisions: news})
	}
	return forged
}

// Admit refuses a member of the gossip pool whose name, key or address
// contradicts the signed records: what members tell of each other lets nobody speak
// for another node.
func (r *Records) Admit(name identity.Name, addr netip.AddrPort) error {
	m, ok := r.View().Member(name)
	if !ok {
		return fmt.Errorf("%s is not a member", name)
	}
	if key, err := identity.KeyIDOf(m.Public); err != nil || r.View().Revoked(key) {
		return fmt.Errorf("the key of %s has been revoked", name)
	}
	if host, ok := r.View().Node(name); ok && host.Address != addr.Addr().Unmap().String() {
		return fmt.Errorf("%s is at %s according to its record, not at %s", name, host.Address, addr.Addr())
	}
	return nil
}

// Changed is told by gossip when a member comes or goes.
func (r *Records) Changed() { r.conf.Changed() }
