// SPDX-License-Identifier: Apache-2.0

// Package signer makes the records that this node signs about services: its own
// instances, and with an operator key grants. It must not decide what is defined here.
package signer

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"

	"tacit/identity"
	"tacit/node/api"
	"tacit/node/membership"
	"tacit/node/records"
	"tacit/policy/ledger"
	"tacit/policy/ledger/statement"
)

// Signer signs for the node Self.
type Signer struct {
	Self    identity.Name
	Member  *membership.Member
	Records *records.Records
	Log     *slog.Logger
}

// GrantOwn is nil when this node may run the service. A node with an operator
// key grants itself what root has defined on it, and vouches for the real names and
// addresses that it claims. Errors: *api.Error with the reason grant.
func (s Signer) GrantOwn(service identity.Name, claims ...string) error {
	v := s.Records.View()
	vouched := v.Vouched(s.Self, service)
	claims = slices.DeleteFunc(slices.Clone(claims), func(c string) bool { return slices.Contains(vouched, c) })
	granted := v.Granted(s.Self, service)
	switch {
	case granted && (len(claims) == 0 || s.Member.Operator.Key() == nil):
		return nil
	case s.Member.Operator.Key() == nil:
		return s.notGranted(service)
	}
	if err := s.Grant(s.Self, service, false, append(vouched, claims...)...); err != nil {
		if errors.Is(err, records.ErrUnreached) {
			return api.Refused("tacit nodes shows which nodes answer", "service %s is not granted to node %s: %s", service, s.Self, records.ErrUnreached)
		}
		return err
	}
	log := s.Log
	if len(claims) > 0 {
		log = log.With("outside", claims)
	}
	log.Info("granted to this node with its operator key", "service", service)
	return nil
}

func (s Signer) notGranted(service identity.Name) error {
	e := &api.Error{Code: api.CodeRefused, Reason: "grant",
		Message: fmt.Sprintf("service %s is not granted to node %s", service, s.Self),
		Hint:    fmt.Sprintf("on a node with an operator key: tacit node grant %s --service %s", s.Self, service)}
	for _, o := range s.Records.View().Operators() {
		e.Nodes = append(e.Nodes, string(o.Node))
	}
	return e
}

// Grant signs with the operator key that a node may run a service, and for which
// real names and addresses; or that it may no longer.
func (s Signer) Grant(node, service identity.Name, withdraw bool, outside ...string) error {
	operator := s.Member.Operator.Key()
	if operator == nil {
		return s.notGranted(service)
	}
	body := statement.Grant{Node: node, Service: service, Outside: outside}
	return s.Records.Sign(operator, records.Change{Kind: ledger.KindGrant,
		Key: string(node) + "/" + string(service), Body: body, Delete: withdraw})
}

// ErrNoMember means that nothing that this node signs counts.
var ErrNoMember = errors.New("this node's key no longer belongs to a member (revoked?)")

// SignNode publishes this node's own record, where it isn't what is known already.
// Errors: records.ErrUnreached, ErrNoMember.
func (s Signer) SignNode(body statement.Node) error {
	v := s.Records.View()
	if own, ok := v.Member(s.Self); !ok || !bytes.Equal(own.Public, s.Member.Key.Public()) {
		return ErrNoMember
	}
	if old, ok := v.Node(s.Self); ok && reflect.DeepEqual(old, body) {
		return nil
	}
	return s.Records.Sign(s.Member.Key, records.Change{Kind: ledger.KindNode, Key: string(s.Self), Body: body})
}

// SignInstance publishes an instance of this node, or withdraws it.
func (s Signer) SignInstance(body statement.Instance, withdraw bool) error {
	return s.Records.Sign(s.Member.Key, records.Change{Kind: ledger.KindInstance,
		Key: string(s.Self) + "/" + body.ID, Body: body, Delete: withdraw})
}
