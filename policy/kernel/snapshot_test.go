// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"os"
	"sync"
	"testing"
	"time"

	"tacit/bpf"
	"tacit/identity"
	"tacit/policy"
	"tacit/policy/kernel"
)

// TestDecisionsDuringChanges: while policy changes between two tables that both deny
// a pair, by a deny of another precedence, no decision allows it. With TACIT_SOAK it
// tries for a minute.
func TestDecisionsDuringChanges(t *testing.T) {
	all := rule(policy.Any, policy.Any, policy.Allow)
	neverAllowed(t, bpf.Limits{}, []*policy.Table{
		policy.NewTable(policy.Deny, []policy.Intention{all, rule("web", "db", policy.Deny)}),
		policy.NewTable(policy.Deny, []policy.Intention{all, rule(policy.Any, "db", policy.Deny)}),
		policy.NewTable(policy.Deny, []policy.Intention{all, rule("web", policy.Any, policy.Deny)}),
		policy.NewTable(policy.Allow, []policy.Intention{rule("web", "db", policy.Deny)}),
		policy.NewTable(policy.Deny, nil),
	})
}

// TestDecisionsWhileDeniesGiveWay: the same in a map that is full of denies, where old
// ones have to go before new ones come, and the default allows.
func TestDecisionsWhileDeniesGiveWay(t *testing.T) {
	full := func(first policy.Intention, others string) *policy.Table {
		rules := []policy.Intention{first}
		for _, dst := range others {
			rules = append(rules, rule("app", identity.Name(dst), policy.Deny))
		}
		return policy.NewTable(policy.Allow, rules)
	}
	neverAllowed(t, bpf.Limits{Intentions: 4}, []*policy.Table{
		full(rule("web", "db", policy.Deny), "abc"),
		full(rule(policy.Any, "db", policy.Deny), "def"),
		full(rule("web", policy.Any, policy.Deny), "ghi"),
	})
}

func rule(src, dst identity.Name, a policy.Action) policy.Intention {
	return policy.Intention{Source: src, Destination: dst, Action: a}
}

// neverAllowed goes from table to table for a while, and wants web to be denied db at
// every moment.
func neverAllowed(t *testing.T, limits bpf.Limits, tables []*policy.Table) {
	t.Helper()
	_, o := load(t, limits)
	n := newNumbers()
	k := newKernel(t, o, n)
	apply := func(i int) {
		if _, err := k.Apply(kernel.State{Table: tables[i%len(tables)]}); err != nil {
			t.Error(err)
		}
	}
	apply(0)
	pair := bpf.Pair{Source: n.Number("web"), Destination: n.Number("db")}
	length := time.Second
	if os.Getenv("TACIT_SOAK") != "" {
		length = time.Minute
	}
	end := time.Now().Add(length)
	var wait sync.WaitGroup
	for range 3 {
		wait.Go(func() {
			for tries := 0; time.Now().Before(end); tries++ {
				if got, err := o.Decide(pair, false); err != nil || got == bpf.Allowed {
					t.Errorf("decision %d: %s, %v", tries, kernel.ReasonOf(got), err)
					return
				}
			}
		})
	}
	changes := 1
	for ; time.Now().Before(end); changes++ {
		apply(changes)
	}
	wait.Wait()
	t.Logf("%d changes", changes)
}
