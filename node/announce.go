// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"

	"tacit/node/health"
	"tacit/node/records"
	"tacit/node/signer"
	"tacit/policy/ledger/statement"
)

// announce signs this node's own record where its addresses are new.
func (n *Node) announce() error {
	body := statement.Node{Node: n.cfg.Name, Address: n.cfg.Addr.String(),
		LanePort: n.cfg.LanePort, GossipPort: n.cfg.GossipPort, Version: n.cfg.Version, Zone: n.cfg.Zone}
	for _, addr := range n.peers.Addresses() {
		body.Also = append(body.Also, addr.String())
	}
	err := n.signer().SignNode(body)
	switch {
	case errors.Is(err, records.ErrUnreached):
		return nil // announcing tries again
	case errors.Is(err, signer.ErrNoMember):
		return fmt.Errorf("%w: remove %s and join again with a new token", err, n.cfg.StateDir)
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
