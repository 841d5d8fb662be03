// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"tacit/bpf"
	"tacit/identity"
	"tacit/policy"
	"tacit/policy/kernel"
)

// manyRules returns n intentions between at most 300 destinations.
func manyRules(n int) []policy.Intention {
	out := make([]policy.Intention, 0, n)
	for i := range n {
		out = append(out, policy.Intention{Source: identity.Name(fmt.Sprint("s", i/300)), Destination: identity.Name(fmt.Sprint("d", i%300)), Action: policy.Allow})
	}
	return out
}

// manyServices is the State of a node that runs n services, each with one port
// and with a second instance on another node.
func manyServices(n int, table *policy.Table) kernel.State {
	s := kernel.State{Table: table, Workloads: kernel.Workloads{Cgroups: map[uint64]identity.Name{}}, Domains: []string{"mesh", "consul"}}
	for i := range n {
		name, port := identity.Name(fmt.Sprint("service-", i)), uint16(10_000+i)
		s.Workloads.Cgroups[uint64(i)+1] = name
		s.Endpoints = append(s.Endpoints, kernel.Endpoint{Service: name, Port: port, Remote: true,
			Local: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)})
		s.Guards = append(s.Guards, kernel.Guard{Port: port, Service: name})
		s.Remotes = append(s.Remotes, kernel.Remote{Addr: netip.AddrPortFrom(nth(i), port), Service: name})
		s.Hosts = append(s.Hosts, string(name)+".mesh.example")
	}
	return s
}

// nth is an address of 10.0.0.0/8.
func nth(i int) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], 10<<24+uint32(i))
	return netip.AddrFrom4(b)
}

// BenchmarkThousandServices measures the calls of a node with 1,000 services:
// Apply of an equal State, Apply after one service came or went, Apply of
// another table of the same size, and Verify.
func BenchmarkThousandServices(b *testing.B) {
	for _, intentions := range []int{1_000, 10_000, 100_000} {
		_, o := load(b, bpf.Limits{})
		k := newKernel(b, o, newNumbers())
		rules := manyRules(intentions)
		tables := []*policy.Table{policy.NewTable(policy.Deny, rules), policy.NewTable(policy.Deny, rules[1:])}
		apply := func(services int, table *policy.Table) {
			if _, err := k.Apply(manyServices(services, table)); err != nil {
				b.Fatal(err)
			}
		}
		run := func(name string, f func(i int)) {
			b.Run(fmt.Sprintf("intentions=%d/%s", intentions, name), func(b *testing.B) {
				for i := range b.N {
					f(i)
				}
			})
		}
		apply(1_000, tables[0])
		equal := manyServices(1_000, tables[0])
		run("unchanged", func(int) {
			if changed, err := k.Apply(equal); changed || err != nil {
				b.Fatal(changed, err)
			}
		})
		states := []kernel.State{manyServices(999, tables[0]), manyServices(1_000, tables[0])}
		run("a-service-changed", func(i int) {
			if _, err := k.Apply(states[i%2]); err != nil {
				b.Fatal(err)
			}
		})
		states = []kernel.State{manyServices(1_000, tables[1]), manyServices(1_000, tables[0])}
		run("an-intention-changed", func(i int) {
			if _, err := k.Apply(states[i%2]); err != nil {
				b.Fatal(err)
			}
		})
		run("verify", func(int) {
			if changed, err := k.Verify(); changed != nil || err != nil {
				b.Fatal(changed, err)
			}
		})
	}
}

// TestLargeNodeIsCheap: a node with 1,000 services and 100,000 intentions may
// look at everything every few seconds. The bounds leave room for a loaded
// machine; BenchmarkThousandServices has the figures.
func TestLargeNodeIsCheap(t *testing.T) {
	_, o := load(t, bpf.Limits{})
	k := newKernel(t, o, newNumbers())
	table := policy.NewTable(policy.Deny, manyRules(100_000))
	if _, err := k.Apply(manyServices(1_000, table)); err != nil {
		t.Fatal(err)
	}
	again := manyServices(1_000, table)
	begin := time.Now()
	if changed, err := k.Apply(again); changed || err != nil {
		t.Fatalf("the same State: changed %v, %v", changed, err)
	}
	if took := time.Since(begin); took > 50*time.Millisecond {
		t.Errorf("Apply of an equal State took %s", took)
	}
	begin = time.Now()
	if got, err := k.Verify(); err != nil || got != nil {
		t.Fatalf("changed %v, %v", got, err)
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("Verify took %s", took)
	}
}
