// SPDX-License-Identifier: Apache-2.0

package membership

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"tacit/identity"
	"tacit/node/records"
	"tacit/policy/ledger"
	"tacit/policy/ledger/statement"
)

// defaultTokenTTL is how long a token is good when the request doesn't say.
const defaultTokenTTL = 15 * time.Minute

// Why a token can't be made.
var (
	ErrNoOperatorKey = errors.New("making a token needs an operator key")
	ErrNameTaken     = errors.New("the name is taken by a member")
	ErrNoAddress     = errors.New("no authority's address is known")
)

// Preparer signs records that come into force when somebody else merges them: a
// *records.Records.
type Preparer interface {
	Prepare(key *identity.Key, c records.Change, reserve func(ledger.Dot) error) (ledger.Record, error)
}

// Settings keep small values by name.
type Settings interface {
	Set(name string, value []byte) error
}

// TokenMaker makes join tokens, on a node with an operator key.
type TokenMaker struct {
	Member  *Member
	Self    identity.Name
	Roll    Roll
	Records Preparer
	Store   Settings
}

// TokenRequest says whom a token lets in, and with which grants.
type TokenRequest struct {
	Node     identity.Name
	Services []identity.Name
	TTL      time.Duration // 0: 15 minutes
}

// NewToken makes a join token that carries the grants it promises. Errors:
// ErrNoOperatorKey, ErrNameTaken, ErrNoAddress.
func (t TokenMaker) NewToken(r TokenRequest) (text string, expires time.Time, err error) {
	operator := t.Member.Operator.Key()
	if operator == nil {
		return "", expires, ErrNoOperatorKey
	}
	if _, up := t.Roll.Node(r.Node); up { // a member without this record was admitted and may have lost the answer: it may try again
		return "", expires, fmt.Errorf("%w: %s", ErrNameTaken, r.Node)
	}
	authority, addr, err := t.anyAuthority()
	if err != nil {
		return "", expires, err
	}
	if r.TTL == 0 {
		r.TTL = defaultTokenTTL
	}
	expires = time.Now().Add(r.TTL).UTC()
	grants, err := t.preparedGrants(operator, r)
	if err != nil {
		return "", expires, err
	}
	text, err = identity.NewToken(identity.Token{
		Node: r.Node, TrustDomain: t.Member.Bundle.TrustDomain(), Authority: authority, Addresses: []string{addr},
		Root: t.Member.Bundle.Fingerprint(), Grants: grants, Expires: expires,
	}, operator)
	return text, expires, err
}

// preparedGrants come into force when the token is redeemed. Their numbers are
// on disk before they are given out.
func (t TokenMaker) preparedGrants(operator *identity.Key, r TokenRequest) ([]json.RawMessage, error) {
	var out []json.RawMessage
	for _, service := range r.Services {
		c := records.Change{Kind: ledger.KindGrant, Key: string(r.Node) + "/" + string(service), Body: statement.Grant{Node: r.Node, Service: service}}
		rec, err := t.Records.Prepare(operator, c, func(d ledger.Dot) error {
			return t.Store.Set(setReserved, binary.BigEndian.AppendUint64(nil, d.Seq))
		})
		if err != nil {
			return nil, err
		}
		text, err := json.Marshal(rec)
		if err != nil {
			return nil, err
		}
		out = append(out, text)
	}
	return out, nil
}

// anyAuthority prefers this node.
func (t TokenMaker) anyAuthority() (identity.Name, string, error) {
	names := t.Roll.Authorities()
	if t.Member.Authority != nil {
		names = []identity.Name{t.Self}
	}
	for _, name := range names {
		if host, ok := t.Roll.Node(name); ok {
			return name, net.JoinHostPort(host.Address, strconv.Itoa(int(host.LanePort))), nil
		}
	}
	return "", "", ErrNoAddress
}
