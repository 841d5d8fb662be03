// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"tacit/identity"
	"tacit/policy"
	"tacit/policy/resolver"
)

// RootBody is the certificate authority's root.
type RootBody struct {
	Certificate []byte `json:"certificate"` // DER
}

// AuthorityBody makes a node an authority under one intermediate certificate.
type AuthorityBody struct {
	Node        identity.Name `json:"node"`
	Certificate []byte        `json:"certificate"` // DER
}

// OperatorBody makes a key an operator's. Node is the node that holds the key.
type OperatorBody struct {
	Node   identity.Name `json:"node"`
	Public []byte        `json:"public"` // SPKI, DER
}

// MemberBody binds a node's name to its long-term key.
type MemberBody struct {
	Node   identity.Name `json:"node"`
	Public []byte        `json:"public"` // SPKI, DER
}

// RevocationBody revokes a key of any kind.
type RevocationBody struct {
	Public identity.KeyID `json:"public"`
	Node   identity.Name  `json:"node,omitempty"` // for people
	Reason string         `json:"reason,omitempty"`
}

// GrantBody allows a node to run a service, or an ingress. Outside is what its
// instances outside of the mesh may stand for everywhere: hosts, and addresses with a
// port or without.
type GrantBody struct {
	Node    identity.Name `json:"node"`
	Service identity.Name `json:"service"`
	Outside []string      `json:"outside,omitempty"`
}

// maxAddresses is the maximum length of NodeBody.Also.
const maxAddresses = 32

// NodeBody is the address and ports of a node.
type NodeBody struct {
	Node       identity.Name `json:"node"`
	Address    string        `json:"address"`        // IP, in netip's form
	Also       []string      `json:"also,omitempty"` // more addresses; the node's lane port is open there, too
	LanePort   uint16        `json:"lane_port"`
	GossipPort uint16        `json:"gossip_port"`
	Version    string        `json:"version,omitempty"`
	Zone       string        `json:"zone,omitempty"` // instances in the caller's zone are preferred
}

// InstanceBody is one instance of a service on a node, or an ingress.
type InstanceBody struct {
	Node       identity.Name     `json:"node"`
	Service    identity.Name     `json:"service"`
	ID         string            `json:"id"`
	Port       uint16            `json:"port,omitempty"`    // 0: the program only calls others
	Address    string            `json:"address,omitempty"` // IP; "" is the node's
	Tags       []string          `json:"tags,omitempty"`
	Meta       map[string]string `json:"meta,omitempty"`
	Weight     int               `json:"weight,omitempty"`
	Permissive bool              `json:"permissive,omitempty"`
	Place      string            `json:"place,omitempty"`   // network namespace in which it listens, for people; "": its node's
	Down       string            `json:"down,omitempty"`    // why it can't serve now: DownListener, DownAddress, "check NAME", or the reason for which an ingress is closed; "": it can
	Balance    string            `json:"balance,omitempty"` // how callers choose among the instances; unknown ones count as ""
	Retry      string            `json:"retry,omitempty"`   // when callers try another instance; likewise
	Outside    *Outside          `json:"outside,omitempty"` // nil: a program on the node
	Ingress    *Ingress          `json:"ingress,omitempty"` // set if and only if Service is an ingress
}

// Ingress says where a node takes plain connections, and for which service.
type Ingress struct {
	Listen  string        `json:"listen"` // address and port
	Service identity.Name `json:"service"`
	Port    uint16        `json:"port,omitempty"` // of the service; 0: its only one
}

// DownListener: no socket of the workload listens on the instance's port.
const DownListener = "listener"

// bodyInfo is a parsed body.
type bodyInfo struct {
	value any
	key   string         // the key that the record must have
	sub   identity.KeyID // the public key that the body binds, if any
}

// parseBody parses the body of a kind. Bodies that give rights are parsed strictly:
// the bytes must be those that this version would write, so that a record with an
// unknown field, which this version can't apply, is refused. Nodes and instances
// may have unknown fields.
func parseBody(k Kind, raw json.RawMessage) (bodyInfo, error) {
	switch k {
	case KindRoot:
		return read(raw, true, RootBody.info)
	case KindOperator:
		return read(raw, true, OperatorBody.info)
	case KindRevocation:
		return read(raw, true, RevocationBody.info)
	case KindAuthority:
		return read(raw, true, AuthorityBody.info)
	case KindMember:
		return read(raw, true, MemberBody.info)
	case KindGrant:
		return read(raw, true, GrantBody.info)
	case KindNode:
		return read(raw, false, NodeBody.info)
	case KindInstance:
		return read(raw, false, InstanceBody.info)
	case KindIntention:
		return read(raw, true, intentionInfo)
	case KindResolver:
		return read(raw, true, resolverInfo)
	}
	return bodyInfo{}, fmt.Errorf("no body is known for kind %q", k)
}

func read[T any](raw json.RawMessage, strict bool, check func(T) (bodyInfo, error)) (bodyInfo, error) {
	var v T
	if err := json.Unmarshal(raw, &v); err != nil {
		return bodyInfo{}, err
	}
	var again any = raw
	if strict {
		again = v
	}
	text, err := json.Marshal(again)
	if err != nil {
		return bodyInfo{}, err
	}
	if !bytes.Equal(text, raw) {
		return bodyInfo{}, errors.New("not in the form that this version writes: an unknown field, or another encoding")
	}
	a, err := check(v)
	a.value = v
	return a, err
}

func (b RootBody) info() (bodyInfo, error) {
	sub, err := certificateKey(b.Certificate)
	return bodyInfo{sub: sub}, err
}

func (b AuthorityBody) info() (bodyInfo, error) {
	sub, err := certificateKey(b.Certificate)
	return bodyInfo{key: string(b.Node), sub: sub}, errors.Join(err, checkNames(b.Node))
}

func (b OperatorBody) info() (bodyInfo, error) {
	id, err := publicKey(b.Public)
	return bodyInfo{key: id.String()}, errors.Join(err, checkNames(b.Node))
}

func (b MemberBody) info() (bodyInfo, error) {
	sub, err := publicKey(b.Public)
	return bodyInfo{key: string(b.Node), sub: sub}, errors.Join(err, checkNames(b.Node))
}

func (b RevocationBody) info() (bodyInfo, error) {
	err := checkText("reason", b.Reason, 1024)
	if b.Node != "" {
		err = errors.Join(err, checkNames(b.Node))
	}
	return bodyInfo{key: b.Public.String()}, err
}

func (b GrantBody) info() (bodyInfo, error) {
	return bodyInfo{key: b.key()}, errors.Join(checkNames(b.Node), checkSource(b.Service), checkVouched(b.Outside))
}

func (b GrantBody) key() string { return string(b.Node) + "/" + string(b.Service) }

func (b NodeBody) info() (bodyInfo, error) {
	err := errors.Join(checkNames(b.Node), checkAddress(b.Address), checkText("version", b.Version, 64), checkText("zone", b.Zone, 64))
	for _, addr := range b.Also {
		err = errors.Join(err, checkAddress(addr))
	}
	if len(b.Also) > maxAddresses {
		err = errors.Join(err, fmt.Errorf("%d more addresses: at most %d", len(b.Also), maxAddresses))
	}
	if b.LanePort == 0 {
		err = errors.Join(err, errors.New("no lane port"))
	}
	return bodyInfo{key: string(b.Node)}, err
}

func (b InstanceBody) info() (bodyInfo, error) {
	errs := []error{checkNames(b.Node), checkSource(b.Service), b.checkIngress(), checkID(b.ID), checkLists(b.Tags, b.Meta), checkText("down", b.Down, 256), checkText("place", b.Place, 256)}
	if b.Address != "" {
		errs = append(errs, checkAddress(b.Address))
	}
	if b.Weight < 0 || b.Weight > 65535 {
		errs = append(errs, fmt.Errorf("weight %d: use 0 to 65535", b.Weight))
	}
	errs = append(errs, checkText("balance", b.Balance, 64), checkText("retry", b.Retry, 64), b.Outside.check(b.Port))
	return bodyInfo{key: string(b.Node) + "/" + b.ID}, errors.Join(errs...)
}

// checkIngress: an ingress calls only, and nothing else has what it has.
func (b InstanceBody) checkIngress() error {
	if b.Service.IsIngress() != (b.Ingress != nil) || b.Ingress != nil && b.Port != 0 {
		return fmt.Errorf("%s: an ingress, and nothing else, says where it listens, and has no port that others call", b.Service)
	}
	if b.Ingress == nil {
		return nil
	}
	return errors.Join(checkText("listen", b.Ingress.Listen, 64), checkNames(b.Ingress.Service))
}

func intentionInfo(i policy.Intention) (bodyInfo, error) {
	return bodyInfo{key: i.Key()}, errors.Join(i.Validate(), checkText("description", i.Description, 1024))
}

func resolverInfo(r resolver.Rules) (bodyInfo, error) {
	return bodyInfo{key: string(r.Service)}, r.Validate()
}

// checkDelete checks the key of a delete, which has no body to compare it with.
func checkDelete(k Kind, key string) error {
	var err error
	first, second, cut := strings.Cut(key, "/")
	switch k {
	case KindAuthority, KindMember, KindNode, KindResolver:
		err = checkNames(identity.Name(key))
	case KindGrant:
		err = errors.Join(checkNames(identity.Name(first)), checkSource(identity.Name(second)))
	case KindInstance:
		err = errors.Join(checkNames(identity.Name(first)), checkID(second))
		if !cut {
			err = errors.New("an instance's key is node/id")
		}
	case KindIntention:
		src, dst, _ := strings.Cut(key, ">")
		err = policy.Intention{Source: identity.Name(src), Destination: identity.Name(dst), Action: policy.Deny}.Validate()
	default:
		err = fmt.Errorf("a %s can't be deleted; revoke the key", k)
	}
	if err != nil {
		return fmt.Errorf("%w: key %.80q: %w", ErrMalformed, key, err)
	}
	return nil
}

// nodeOf returns the node that a record's key begins with.
func nodeOf(key string) identity.Name {
	node, _, _ := strings.Cut(key, "/")
	return identity.Name(node)
}
