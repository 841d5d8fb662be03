// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"tacit/identity"
	"tacit/policy"
	"tacit/policy/ledger/statement"
	"tacit/policy/resolver"
)

// parseBody parses the body of a kind. Bodies that give rights are parsed strictly:
// the bytes must be those that this version would write, so that a record with an
// unknown field, which this version can't apply, is refused. Nodes and instances
// may have unknown fields.
func parseBody(k Kind, raw json.RawMessage) (statement.Info, error) {
	switch k {
	case KindRoot:
		return statement.Read(raw, true, statement.Root.Info)
	case KindOperator:
		return statement.Read(raw, true, statement.Operator.Info)
	case KindRevocation:
		return statement.Read(raw, true, statement.Revocation.Info)
	case KindAuthority:
		return statement.Read(raw, true, statement.Authority.Info)
	case KindMember:
		return statement.Read(raw, true, statement.Member.Info)
	case KindGrant:
		return statement.Read(raw, true, statement.Grant.Info)
	case KindNode:
		return statement.Read(raw, false, statement.Node.Info)
	case KindInstance:
		return statement.Read(raw, false, statement.Instance.Info)
	case KindFloor:
		return statement.Read(raw, true, statement.Floor.Info)
	case KindIntention:
		return statement.Read(raw, true, intentionInfo)
	case KindResolver:
		return statement.Read(raw, true, resolverInfo)
	}
	return statement.Info{}, fmt.Errorf("no body is known for kind %q", k)
}

func intentionInfo(i policy.Intention) (statement.Info, error) {
	return statement.Info{Key: i.Key()}, errors.Join(i.Validate(), statement.CheckText("description", i.Description, 1024))
}

func resolverInfo(r resolver.Rules) (statement.Info, error) {
	return statement.Info{Key: string(r.Service)}, r.Validate()
}

// checkDelete checks the key of a delete, which has no body to compare it with.
func checkDelete(k Kind, key string) error {
	var err error
	first, second, cut := strings.Cut(key, "/")
	switch k {
	case KindAuthority, KindMember, KindNode, KindResolver:
		err = statement.CheckNames(identity.Name(key))
	case KindGrant:
		err = errors.Join(statement.CheckNames(identity.Name(first)), statement.CheckSource(identity.Name(second)))
	case KindInstance:
		err = errors.Join(statement.CheckNames(identity.Name(first)), statement.CheckID(second))
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
