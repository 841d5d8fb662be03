// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"
	"reflect"

	"tacit/node/records"
	"tacit/policy/ledger"
	"tacit/policy/ledger/statement"
)

// announce signs this node's own record where its addresses are new.
func (n *Node) announce() error {
	body := statement.Node{Node: n.cfg.Name, Address: n.cfg.Addr.String(),
		LanePort: n.cfg.LanePort, GossipPort: n.cfg.GossipPort, Version: n.cfg.Version, Zone: n.cfg.Zone}
	for _, addr := range n.peers.Addresses() {
		body.Also = append(body.Also, addr.String())
	}
	if old, ok := n.records.View().Node(n.cfg.Name); ok && reflect.DeepEqual(old, body) {
		return nil
	}
	err := n.records.Sign(n.member.Key, records.Change{Kind: ledger.KindNode, Key: string(n.cfg.Name), Body: body})
	if errors.Is(err, ledger.ErrNotAuthorized) {
		return fmt.Errorf("this node's key no longer belongs to a member (revoked?): remove %s and join again with a new token", n.cfg.StateDir)
	}
	return err
}
