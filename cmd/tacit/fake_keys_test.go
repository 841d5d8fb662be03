// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"strings"

	"tacit/node/api"
)

type fakeKeys struct{ *fake }

const fakeRoot = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"

// keyOf is a key whose ID repeats two digits.
func keyOf(digits string, kind api.KeyKind, node api.Name) api.Key {
	return api.Key{ID: strings.Repeat(digits, 32), Kind: kind, Node: node, State: api.KeyInForce}
}

func (f fakeKeys) List(context.Context) ([]api.Key, error) {
	all := []api.Key{
		keyOf("00", api.KeyRoot, ""), keyOf("01", api.KeyOperator, "host1"), keyOf("02", api.KeyOperator, "host2"),
		keyOf("a1", api.KeyNode, "host1"), keyOf("d1", api.KeyService, "host2"),
	}
	all[0].Here, all[1].Here, all[1].SignedBy, all[2].SignedBy = true, true, []string{"root"}, []string{"operator host1"}
	all[2].State, all[2].Reason, all[4].Service = api.KeyRevoked, "disk stolen", "db"
	return all, nil
}

func (f fakeKeys) Offer(context.Context, api.OfferRequest) (*api.Offer, error) {
	k := keyOf("02", api.KeyOperator, "host1")
	k.State = api.KeyVoid
	return &api.Offer{Key: k, Line: "tacit-operator1.bGluZQ"}, nil
}

func (f fakeKeys) AddOperator(_ context.Context, r api.OperatorAddition) (*api.Key, error) {
	f.note(r)
	k := keyOf("02", api.KeyOperator, r.Node)
	k.SignedBy = []string{"root"}
	return &k, nil
}

func (f fakeKeys) Revoke(_ context.Context, r api.Revocation) (*api.RevocationResult, error) {
	f.note(r)
	if r.Subject == "host1" {
		return nil, api.Refused("revoke it from another operator's node", "host1 can't revoke itself")
	}
	service := keyOf("d3", api.KeyService, "host3")
	service.Service = "db"
	return &api.RevocationResult{Done: !r.DryRun, By: "operator host1", Revoked: []api.Key{keyOf("03", api.KeyOperator, "host3"), service},
		Again: []api.Rested{{Label: "intention/web>db", Says: "allow web -> db"}}, Lost: []api.Rested{{Label: "intention/x>y", Says: "allow x -> y"}},
		Withdrawn: []string{"host3/db"}}, nil
}

func (f fakeKeys) ExportRoot(context.Context, api.RootExport) (*api.RootKey, error) {
	return &api.RootKey{ID: strings.Repeat("00", 32), PEM: fakeRoot}, nil
}

func (f fakeKeys) DropRoot(_ context.Context, r api.RootCopy) (*api.RootDropped, error) {
	f.note("drop")
	if r.PEM != fakeRoot {
		return nil, api.Failed("export it again: tacit ca export-root FILE", "the copy is not this mesh's root key; nothing was removed")
	}
	return &api.RootDropped{ID: strings.Repeat("00", 32)}, nil
}
