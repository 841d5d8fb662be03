// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"cmp"
	"context"
	"crypto/sha256"
	"slices"
	"strings"

	"tacit/identity"
	"tacit/node/api"
	"tacit/policy/ledger"
	"tacit/policy/ledger/statement"
)

// List lists every key that this node knows: those of records, its own services', and
// those that others have proven to it.
func (k keys) List(context.Context) ([]api.Key, error) {
	root := k.Member.Bundle.Fingerprint()
	out := []api.Key{{ID: root.String(), Kind: api.KeyRoot, State: api.KeyInForce, Here: k.ownRoot() != nil}}
	out = append(out, k.held("")...)
	out = append(out, k.services()...)
	for _, id := range k.view().Keys(ledger.KindRevocation) {
		if !slices.ContainsFunc(out, func(o api.Key) bool { return o.ID == id }) {
			out = append(out, api.Key{ID: id, Kind: api.KeyUnknown, State: api.KeyRevoked})
		}
	}
	for i := range out {
		k.tell(&out[i])
	}
	return out, nil
}

// Of are the keys that records give to a node, revoked ones too.
func Of(v *ledger.View, node identity.Name) []api.Key {
	return slices.DeleteFunc(recorded(v), func(o api.Key) bool { return o.Node != node })
}

// held are the keys that records give to a node, or to all, as this node shows them.
func (k keys) held(node identity.Name) []api.Key {
	out := recorded(k.view())
	if node != "" {
		out = slices.DeleteFunc(out, func(o api.Key) bool { return o.Node != node })
	}
	for i := range out {
		out[i].Here = out[i].Node == k.Settings.Name
	}
	return out
}

// recorded are the keys in records, by kind and node.
func recorded(v *ledger.View) []api.Key {
	var out []api.Key
	for _, kind := range []ledger.Kind{ledger.KindOperator, ledger.KindAuthority, ledger.KindMember} {
		for _, key := range v.Keys(kind) {
			for _, rec := range v.Heads(kind, key) {
				if id, node, ok := bound(rec); ok {
					out = append(out, api.Key{ID: id.String(), Kind: kinds(kind), Node: node, State: state(v, kind, id), SignedBy: signers(v, kind, key, id)})
				}
			}
		}
	}
	slices.SortStableFunc(out, func(a, b api.Key) int {
		return cmp.Or(cmp.Compare(order(a.Kind), order(b.Kind)), cmp.Compare(a.Node, b.Node), cmp.Compare(a.ID, b.ID))
	})
	return slices.CompactFunc(out, func(a, b api.Key) bool { return a.ID == b.ID && a.Kind == b.Kind })
}

func order(kind api.KeyKind) int {
	return slices.Index([]api.KeyKind{api.KeyRoot, api.KeyOperator, api.KeyAuthority, api.KeyNode, api.KeyService}, kind)
}

func kinds(k ledger.Kind) api.KeyKind {
	if k == ledger.KindMember {
		return api.KeyNode
	}
	return api.KeyKind(k)
}

// bound is the key that a record binds, and the node that holds it.
func bound(r ledger.Record) (id identity.KeyID, node identity.Name, ok bool) {
	var info statement.Info
	var err error
	switch r.Kind {
	case ledger.KindOperator:
		info, err = statement.Read(r.Body, true, statement.Operator.Info)
		if body, is := info.Value.(statement.Operator); is && err == nil {
			return sha256.Sum256(body.Public), body.Node, true
		}
	case ledger.KindAuthority:
		info, err = statement.Read(r.Body, true, statement.Authority.Info)
	case ledger.KindMember:
		info, err = statement.Read(r.Body, true, statement.Member.Info)
	}
	return info.Sub, identity.Name(info.Key), err == nil && !r.Delete && info.Key != ""
}

func state(v *ledger.View, kind ledger.Kind, id identity.KeyID) api.KeyState {
	switch {
	case v.Revoked(id):
		return api.KeyRevoked
	case kind == ledger.KindOperator && !v.IsOperator(id), kind == ledger.KindAuthority && !v.IsAuthority(id):
		return api.KeyVoid
	}
	return api.KeyInForce
}

// signers names who has signed for a key.
func signers(v *ledger.View, kind ledger.Kind, key string, id identity.KeyID) []string {
	var out []string
	for _, r := range v.Heads(kind, key) {
		if got, _, ok := bound(r); ok && got == id {
			out = append(out, who(v, r.Dot.Signer))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// who names a signer: "root", "operator host1", "authority host1".
func who(v *ledger.View, id identity.KeyID) string {
	if id == v.Root() {
		return string(api.KeyRoot)
	}
	for _, kind := range []ledger.Kind{ledger.KindOperator, ledger.KindAuthority} {
		for _, key := range v.Keys(kind) {
			for _, r := range v.Heads(kind, key) {
				if got, node, ok := bound(r); ok && got == id {
					return string(kind) + " " + string(node)
				}
			}
		}
	}
	return "key " + id.Short()
}

// services are the keys of services' certificates that this node knows.
func (k keys) services() []api.Key {
	var out []api.Key
	for _, s := range k.Served() {
		if s.ID.IsService() {
			out = append(out, api.Key{ID: s.Key.String(), Kind: api.KeyService, Node: k.Settings.Name, Service: s.ID.Name(), Ends: s.NotAfter, Here: true, State: api.KeyInForce})
		}
	}
	for _, l := range k.Lanes() {
		for _, p := range l.Proven {
			out = append(out, api.Key{ID: p.Key.String(), Kind: api.KeyService, Node: l.Peer.Name(), Service: p.ID.Name(), Ends: p.Ends, State: api.KeyInForce})
		}
	}
	slices.SortFunc(out, func(a, b api.Key) int {
		return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Service, b.Service), cmp.Compare(a.ID, b.ID))
	})
	return slices.CompactFunc(out, func(a, b api.Key) bool { return a.ID == b.ID })
}

// tell adds what revocations say of a key.
func (k keys) tell(o *api.Key) {
	for _, r := range k.view().Heads(ledger.KindRevocation, o.ID) {
		v := body[statement.Revocation](r)
		o.State, o.Reason, o.Node = api.KeyRevoked, v.Reason, cmp.Or(o.Node, v.Node)
	}
}

// operator is an operator's key, whether or not there is a record of it.
func (k keys) operator(id identity.KeyID, node identity.Name) api.Key {
	for _, o := range k.held(node) {
		if o.ID == id.String() && o.Kind == api.KeyOperator {
			return o
		}
	}
	return api.Key{ID: id.String(), Kind: api.KeyOperator, Node: node, State: api.KeyVoid, Here: node == k.Settings.Name}
}

// find returns the one key, of a kind or of any, whose ID begins so.
func (k keys) find(prefix string, kind api.KeyKind) (api.Key, error) {
	all, err := k.List(context.Background())
	if err != nil {
		return api.Key{}, err
	}
	all = slices.DeleteFunc(all, func(o api.Key) bool { return !strings.HasPrefix(o.ID, prefix) || kind != "" && o.Kind != kind })
	switch {
	case len(all) == 1:
		return all[0], nil
	case len(all) > 1:
		return api.Key{}, api.Failed("give more digits; tacit key list shows the keys", "%d keys begin with %s", len(all), prefix)
	case len(prefix) == 64 && kind == "":
		return api.Key{ID: prefix, Kind: api.KeyUnknown}, nil // of a certificate that was found somewhere
	}
	return api.Key{}, api.Failed("tacit key list shows the keys", "no key that this node knows begins with %s", prefix)
}
