// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"tacit/identity"
	"tacit/node/enrol"
	"tacit/node/store"
)

// join redeems the token and becomes what the answer says.
func join(ctx context.Context, c *settled, st *store.Store) (*member, error) {
	text, token, err := readToken(c)
	if err != nil {
		return nil, err
	}
	key, err := identity.LoadOrCreateKey(c.path(fileNodeKey))
	if err != nil {
		return nil, err
	}
	csr, err := identity.NewCSR(key)
	if err != nil {
		return nil, err
	}
	a, err := enrol.Enrol(ctx, token, enrol.Ask{Token: text, CSR: csr}, candidates(c, token))
	if err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	m, err := newMember(c, token.TrustDomain, a.Root)
	if err != nil {
		return nil, err
	}
	return m, m.accept(c, st, token, a)
}

func readToken(c *settled) (string, *identity.Token, error) {
	if c.TokenFile == "" {
		return "", nil, errors.New("--join needs --token-file; make a token on a member: tacit token create --node " + string(c.name))
	}
	raw, err := os.ReadFile(c.TokenFile)
	if err != nil {
		return "", nil, fmt.Errorf("--token-file: %w", err)
	}
	text := strings.TrimSpace(string(raw))
	token, err := identity.ParseToken(text)
	if err != nil {
		return "", nil, fmt.Errorf("--token-file %s: %w", c.TokenFile, err)
	}
	if token.Node != c.name {
		return "", nil, fmt.Errorf("--token-file %s: the token is for node %s and this is %s; make one for this node: tacit token create --node %s",
			c.TokenFile, token.Node, c.name, c.name)
	}
	return text, token, nil
}

// candidates are where the authority may answer: as the token says, then --join.
func candidates(c *settled, t *identity.Token) []string {
	out := append([]string(nil), t.Addresses...)
	for _, addr := range c.Join {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			addr = net.JoinHostPort(strings.Trim(addr, "[]"), strconv.Itoa(int(c.LanePort)))
		}
		out = append(out, addr)
	}
	return out
}

// accept checks the answer against the token's pin and keeps it.
func (m *member) accept(c *settled, st *store.Store, t *identity.Token, a *enrol.Admission) error {
	if m.bundle.Fingerprint() != t.Root {
		return errors.New("join: the answer's root is not the one that the token is pinned to; make a new token on a node of the right mesh")
	}
	chain, err := identity.DecodeChain(a.Chain)
	if err != nil {
		return fmt.Errorf("join: %w", err)
	}
	m.svid = &identity.SVID{ID: identity.NodeID(t.TrustDomain, c.name), Chain: chain, Key: m.key}
	m.gossipKey = a.GossipKey
	if _, rejected := m.ledger.Merge(a.Records); len(rejected) > 0 {
		c.Log.Warn("records of the admission were refused", "count", len(rejected), "first", rejected[0].Err)
	}
	if own, ok := m.ledger.Member(c.name); !ok || !bytes.Equal(own.Public, m.key.Public()) {
		return errors.New("join: the answer doesn't make this node a member; make a new token and try again")
	}
	if err := m.svid.Save(c.path(fileNodeCert)); err != nil {
		return err
	}
	return m.keep(c, st)
}
