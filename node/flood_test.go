// SPDX-License-Identifier: Apache-2.0

package node

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"tacit/identity"
	"tacit/internal/testhost"
	"tacit/node/config"
	"tacit/node/handover"
	"tacit/node/health"
	"tacit/node/membership"
	"tacit/node/records"
	"tacit/node/store"
	"tacit/policy"
	"tacit/policy/ledger"
	"tacit/policy/ledger/statement"
)

// addMember is another node of first's mesh, with the parts that gossip needs.
func addMember(t *testing.T, first *Node, name identity.Name, addr string) *Node {
	t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	sign(t, first, first.member.Authority.Key(), records.Change{Kind: ledger.KindMember, Key: string(name), Body: statement.Member{Node: name, Public: key.Public()}})
	csr, err := identity.NewCSR(key)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := first.member.Authority.IssueNode(csr, name)
	if err != nil {
		t.Fatal(err)
	}
	s := &config.Settled{Name: name, Addr: netip.MustParseAddr(addr), Config: config.Config{Paths: config.Paths{StateDir: t.TempDir()}, LanePort: 7947, Log: first.log}}
	n := &Node{base: base{cfg: s, log: s.Log, board: health.NewBoard()}, term: &handover.Term{}}
	if n.store, err = store.Open(s.StateDir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.store.Close() })
	n.member = &membership.Member{Key: key, Bundle: first.member.Bundle, SVID: &identity.SVID{ID: identity.NodeID("mesh.test", name), Chain: chain, Key: key}}
	held := ledger.New("mesh.test", first.member.Bundle.Fingerprint())
	held.Merge(first.records.View().Records())
	if n.records, err = records.New(records.Config{Self: name, Ledger: held, Store: n.store, Health: n.board, Log: n.log, Changed: func() {}}); err != nil {
		t.Fatal(err)
	}
	return n
}

// gossips begins gossip on a free port, and signs where it is.
func (n *Node) gossips(t *testing.T) {
	t.Helper()
	n.certificates = membership.NewCertificates(membership.CertificatesConfig{Member: n.member, Settings: n.cfg, Roll: n.records.View(), Health: n.board, Log: n.log})
	if err := n.openGossip(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.pool.Close() })
	n.cfg.GossipPort = n.pool.Addr().Port()
	body := statement.Node{Node: n.cfg.Name, Address: n.cfg.Addr.String(), LanePort: n.cfg.LanePort, GossipPort: n.cfg.GossipPort}
	sign(t, n, n.member.Key, records.Change{Kind: ledger.KindNode, Key: string(n.cfg.Name), Body: body})
}

// floods is what a member may send without end, by name: 20 MiB a message.
func floods(t *testing.T, operator *identity.Key) map[string][]byte {
	t.Helper()
	by, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	many := func(key *identity.Key) []byte {
		signature, err := key.Sign("another context", []byte("another message"))
		if err != nil {
			t.Fatal(err)
		}
		var recs []ledger.Record
		for seq := range uint64(36_000) {
			src := identity.Name(fmt.Sprintf("web-%d", seq))
			body, err := json.Marshal(policy.Intention{Source: src, Destination: "db", Action: policy.Allow})
			if err != nil {
				t.Fatal(err)
			}
			recs = append(recs, ledger.Record{Kind: ledger.KindIntention, Key: string(src) + ">db", Dot: ledger.Dot{Signer: key.ID(), Seq: 1_000_000 + seq},
				Body: body, Signer: key.Public(), Signature: signature})
		}
		text, err := json.Marshal(map[string]any{"records": recs})
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	return map[string][]byte{"forged": many(operator), "by nobody": many(by), "noise": make([]byte, 19<<20)}
}

// TestFloodDelaysNoDenial: while a member sends 20 MiB of forged state again and again,
// each denial is in force here and on the other node at once. The member is cut off on
// both, which status shows; where it sends what is merely useless it is slowed down.
func TestFloodDelaysNoDenial(t *testing.T) {
	for _, name := range []string{"forged", "by nobody", "noise"} {
		t.Run(name, func(t *testing.T) {
			first := newNode(t)
			first.cfg.Addr, first.cfg.GossipPort, first.log = netip.MustParseAddr("127.0.41.1"), 0, slog.New(slog.NewTextHandler(t.Output(), nil))
			first.gossips(t)
			second, flooder := addMember(t, first, "host2", "127.0.41.2"), addMember(t, first, "host3", "127.0.41.3")
			second.gossips(t)
			flooder.gossips(t)
			testhost.Eventually(t, 20*time.Second, "all are alive", func() error {
				for _, n := range []*Node{first, second, flooder} {
					if up := n.alive(); !up["host1"] || !up["host2"] || !up["host3"] {
						return fmt.Errorf("%s sees %v", n.cfg.Name, up)
					}
				}
				return nil
			})
			payload := floods(t, first.member.Operator.Held())[name]
			before := heap()
			stop := make(chan struct{})
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				for tick := time.Tick(20 * time.Millisecond); ; { // faster than two nodes can read it
					select {
					case <-stop:
						return
					case <-tick:
						flooder.pool.Broadcast(payload)
					}
				}
			}()
			var here, there []time.Duration
			most := before
			count := 20
			if os.Getenv("TACIT_SOAK") != "" {
				count = 500
			}
			for i := range count {
				begin := time.Now()
				change := records.Change{Kind: ledger.KindIntention, Key: fmt.Sprintf("app-%d>db", i),
					Body: policy.Intention{Source: identity.Name(fmt.Sprintf("app-%d", i)), Destination: "db", Action: policy.Deny}}
				sign(t, first, first.member.Operator.Held(), change)
				here = append(here, time.Since(begin))
				testhost.Eventually(t, 30*time.Second, "the denial is on the other node", func() error {
					if got := len(second.records.View().Intentions()); got != i+1 {
						return fmt.Errorf("%d of %d", got, i+1)
					}
					return nil
				})
				there = append(there, time.Since(begin))
				most = max(most, heap())
			}
			if name != "by nobody" {
				for _, n := range []*Node{first, second} {
					testhost.Eventually(t, 20*time.Second, "the flooder is cut off", func() error {
						if n.board.Get(health.Gossip, "host3") == nil {
							return fmt.Errorf("%s hears it", n.cfg.Name)
						}
						return nil
					})
				}
			}
			close(stop)
			<-ended
			t.Logf("%s: here %s; on the other node %s; heap +%d MiB", name, spread(here), spread(there), (most-before)>>20)
			if got := len(first.records.View().Intentions()); got != count {
				t.Errorf("%d intentions in force, want %d", got, count)
			}
		})
	}
}

func spread(d []time.Duration) string {
	slices.Sort(d)
	return fmt.Sprintf("p50 %v, p99 %v, max %v", d[len(d)/2], d[len(d)*99/100], d[len(d)-1])
}

func heap() int {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
