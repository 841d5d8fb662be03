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

// OperatorBody makes a key an operator's. Node is where it is kept.
type OperatorBody struct {
	Node   identity.Name `json:"node"`
	Public []byte        `json:"public"` // SPKI, DER
}

// MemberBody binds a node's name to its long-term key.
type MemberBody struct {
	Node   identity.Name `json:"node"`
	Public []byte        `json:"public"` // SPKI, DER
}

// RevocationBody ends a key's power, whoever's it is.
type RevocationBody struct {
	Public identity.KeyID `json:"public"`
	Node   identity.Name  `json:"node,omitempty"` // for people
	Reason string         `json:"reason,omitempty"`
}

// GrantBody allows a node to run a service.
type GrantBody struct {
	Node    identity.Name `json:"node"`
	Service identity.Name `json:"service"`
}

// maxAddresses is how many a node may have besides its first.
const maxAddresses = 32

// NodeBody is where a node is reached.
type NodeBody struct {
	Node       identity.Name `json:"node"`
	Address    string        `json:"address"`        // IP, in netip's form
	Also       []string      `json:"also,omitempty"` // more of them; the node answers on its lane port there, too
	LanePort   uint16        `json:"lane_port"`
	GossipPort uint16        `json:"gossip_port"`
	Version    string        `json:"version,omitempty"`
}

// InstanceBody is one instance of a service on a node.
type InstanceBody struct {
	Node       identity.Name     `json:"node"`
	Service    identity.Name     `json:"service"`
	ID         string            `json:"id"`
	Port       uint16            `json:"port,omitempty"`    // 0: a client only
	Address    string            `json:"address,omitempty"` // IP; "" is the node's
	Tags       []string          `json:"tags,omitempty"`
	Meta       map[string]string `json:"meta,omitempty"`
	Weight     int               `json:"weight,omitempty"`
	Permissive bool              `json:"permissive,omitempty"`
}

// about is a body taken apart.
type about struct {
	value any
	key   string         // the key that the record must have
	sub   identity.KeyID // the public key that the body binds, if any
}

// parseBody reads the body of a kind. What gives rights is read strictly: the
// bytes must be those that this version would write, so a field that it
// doesn't know, and so can't honour, makes it refuse the record. Nodes and
// instances may say more than this version knows.
func parseBody(k Kind, raw json.RawMessage) (about, error) {
	switch k {
	case KindRoot:
		return read(raw, true, RootBody.about)
	case KindOperator:
		return read(raw, true, OperatorBody.about)
	case KindRevocation:
		return read(raw, true, RevocationBody.about)
	case KindAuthority:
		return read(raw, true, AuthorityBody.about)
	case KindMember:
		return read(raw, true, MemberBody.about)
	case KindGrant:
		return read(raw, true, GrantBody.about)
	case KindNode:
		return read(raw, false, NodeBody.about)
	case KindInstance:
		return read(raw, false, InstanceBody.about)
	case KindIntention:
		return read(raw, true, aboutIntention)
	}
	return about{}, fmt.Errorf("no body is known for kind %q", k)
}

func read[T any](raw json.RawMessage, strict bool, check func(T) (about, error)) (about, error) {
	var v T
	if err := json.Unmarshal(raw, &v); err != nil {
		return about{}, err
	}
	var again any = raw
	if strict {
		again = v
	}
	text, err := json.Marshal(again)
	if err != nil {
		return about{}, err
	}
	if !bytes.Equal(text, raw) {
		return about{}, errors.New("not written as this version writes it")
	}
	a, err := check(v)
	a.value = v
	return a, err
}

func (b RootBody) about() (about, error) {
	sub, err := certificateKey(b.Certificate)
	return about{sub: sub}, err
}

func (b AuthorityBody) about() (about, error) {
	sub, err := certificateKey(b.Certificate)
	return about{key: string(b.Node), sub: sub}, errors.Join(err, checkNames(b.Node))
}

func (b OperatorBody) about() (about, error) {
	id, err := publicKey(b.Public)
	return about{key: id.String()}, errors.Join(err, checkNames(b.Node))
}

func (b MemberBody) about() (about, error) {
	sub, err := publicKey(b.Public)
	return about{key: string(b.Node), sub: sub}, errors.Join(err, checkNames(b.Node))
}

func (b RevocationBody) about() (about, error) {
	err := checkText("reason", b.Reason, 1024)
	if b.Node != "" {
		err = errors.Join(err, checkNames(b.Node))
	}
	return about{key: b.Public.String()}, err
}

func (b GrantBody) about() (about, error) {
	return about{key: b.key()}, checkNames(b.Node, b.Service)
}

func (b GrantBody) key() string { return string(b.Node) + "/" + string(b.Service) }

func (b NodeBody) about() (about, error) {
	err := errors.Join(checkNames(b.Node), checkAddress(b.Address), checkText("version", b.Version, 64))
	for _, addr := range b.Also {
		err = errors.Join(err, checkAddress(addr))
	}
	if len(b.Also) > maxAddresses {
		err = errors.Join(err, fmt.Errorf("%d more addresses: at most %d", len(b.Also), maxAddresses))
	}
	if b.LanePort == 0 {
		err = errors.Join(err, errors.New("no lane port"))
	}
	return about{key: string(b.Node)}, err
}

func (b InstanceBody) about() (about, error) {
	errs := []error{checkNames(b.Node, b.Service), checkID(b.ID), checkLists(b.Tags, b.Meta)}
	if b.Address != "" {
		errs = append(errs, checkAddress(b.Address))
	}
	if b.Weight < 0 || b.Weight > 65535 {
		errs = append(errs, fmt.Errorf("weight %d: use 0 to 65535", b.Weight))
	}
	return about{key: string(b.Node) + "/" + b.ID}, errors.Join(errs...)
}

func aboutIntention(i policy.Intention) (about, error) {
	return about{key: i.Key()}, errors.Join(i.Validate(), checkText("description", i.Description, 1024))
}

// checkDelete checks the key of a delete, which no body repeats.
func checkDelete(k Kind, key string) error {
	var err error
	first, second, cut := strings.Cut(key, "/")
	switch k {
	case KindAuthority, KindMember, KindNode:
		err = checkNames(identity.Name(key))
	case KindGrant:
		err = checkNames(identity.Name(first), identity.Name(second))
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
