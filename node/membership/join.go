// SPDX-License-Identifier: Apache-2.0

package membership

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
	"tacit/node/config"
	"tacit/node/enrol"
	"tacit/policy/ledger"
)

// join redeems the token and keeps what the answer makes of this node.
func join(ctx context.Context, s *config.Settled, st Store) (*Member, *ledger.Ledger, error) {
	text, token, err := readToken(s)
	if err != nil {
		return nil, nil, err
	}
	if err := startOver(s, st); err != nil {
		return nil, nil, fmt.Errorf("join: %w", err)
	}
	a, err := redeem(ctx, s, text, token)
	if err != nil {
		return nil, nil, err
	}
	m, err := admitted(s, token, a)
	if err != nil {
		return nil, nil, err
	}
	l, err := m.firstLedger(s, a.Records)
	if err != nil {
		return nil, nil, err
	}
	return m, l, m.keep(s, st, l)
}

func readToken(s *config.Settled) (string, *identity.Token, error) {
	if s.TokenFile == "" {
		return "", nil, fmt.Errorf("--join needs --token-file; make a token on a member: tacit token create --node %s", s.Name)
	}
	raw, err := os.ReadFile(s.TokenFile)
	if err != nil {
		return "", nil, fmt.Errorf("--token-file: %w", err)
	}
	text := strings.TrimSpace(string(raw))
	token, err := identity.ParseToken(text)
	if err != nil {
		return "", nil, fmt.Errorf("--token-file %s: %w", s.TokenFile, err)
	}
	if token.Node != s.Name {
		return "", nil, fmt.Errorf("--token-file %s: the token is for node %s and this is %s; make one for this node: tacit token create --node %s",
			s.TokenFile, token.Node, s.Name, s.Name)
	}
	return text, token, nil
}

// redeem sends the token and a request for a certificate to its authority.
func redeem(ctx context.Context, s *config.Settled, text string, t *identity.Token) (*enrol.Admission, error) {
	key, err := identity.LoadOrCreateKey(s.State(fileNodeKey))
	if err != nil {
		return nil, err
	}
	csr, err := identity.NewCSR(key)
	if err != nil {
		return nil, err
	}
	a, err := enrol.Enrol(ctx, t, enrol.Ask{Token: text, CSR: csr}, candidates(s, t))
	if err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	return a, nil
}

// candidates are where the authority may answer: first those of the token, then those of --join.
func candidates(s *config.Settled, t *identity.Token) []string {
	out := append([]string(nil), t.Addresses...)
	for _, addr := range s.Join {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			addr = net.JoinHostPort(strings.Trim(addr, "[]"), strconv.Itoa(int(s.LanePort)))
		}
		out = append(out, addr)
	}
	return out
}

// admitted is the member that the answer describes, checked against the
// token's root.
func admitted(s *config.Settled, t *identity.Token, a *enrol.Admission) (*Member, error) {
	bundle, err := bundleOf(t.TrustDomain, a.Root)
	if err != nil {
		return nil, err
	}
	if bundle.Fingerprint() != t.Root {
		return nil, errors.New("join: the answer's root is not the one that the token is pinned to; make a new token on a node of the right mesh")
	}
	m, err := newMember(s, bundle)
	if err != nil {
		return nil, err
	}
	chain, err := identity.DecodeChain(a.Chain)
	if err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	m.SVID = &identity.SVID{ID: identity.NodeID(t.TrustDomain, s.Name), Chain: chain, Key: m.Key}
	return m, nil
}

// firstLedger takes in the admission's records, which must name this node.
func (m *Member) firstLedger(s *config.Settled, recs []ledger.Record) (*ledger.Ledger, error) {
	l := m.ledger()
	if _, rejected := l.Merge(recs); len(rejected) > 0 {
		s.Log.Warn("records of the admission were refused", "count", len(rejected), "first", rejected[0].Err)
	}
	if own, ok := l.Member(s.Name); !ok || !bytes.Equal(own.Public, m.Key.Public()) {
		return nil, errors.New("join: the answer doesn't make this node a member; make a new token and try again")
	}
	return l, nil
}
