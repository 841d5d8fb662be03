// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"

	"tacit/node/health"
	"tacit/node/records"
	"tacit/policy/ledger"
	"tacit/policy/ledger/statement"
)

// announce signs this node's own record where its addresses are new.
func (n *Node) announce() error {
	if own, ok := n.records.View().Member(n.cfg.Name); !ok || !bytes.Equal(own.Public, n.member.Key.Public()) {
		return fmt.Errorf("this node's key no longer belongs to a member (revoked?): remove %s and join again with a new token", n.cfg.StateDir)
	}
	body := statement.Node{Node: n.cfg.Name, Address: n.cfg.Addr.String(),
		LanePort: n.cfg.LanePort, GossipPort: n.cfg.GossipPort, Version: n.cfg.Version, Zone: n.cfg.Zone}
	for _, addr := range n.peers.Addresses() {
		body.Also = append(body.Also, addr.String())
	}
	if old, ok := n.records.View().Node(n.cfg.Name); ok && reflect.DeepEqual(old, body) {
		return nil
	}
	err := n.records.Sign(n.member.Key, records.Change{Kind: ledger.KindNode, Key: string(n.cfg.Name), Body: body})
	if errors.Is(err, records.ErrUnreached) {
		return nil // announcing tries again
	}
	return err
}

// announcing signs this node's record again once that is possible, and when an other
// one came back from other nodes.
func (n *Node) announcing(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-n.records.Own():
			n.board.Set(health.Announcement, "", n.announce())
		}
	}
}
