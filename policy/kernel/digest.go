// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"strings"

	"tacit/bpf"
	"tacit/identity"
	"tacit/policy"
)

// Revision says what the maps hold.
type Revision struct {
	Number uint64 // grows with every change to the maps, over restarts too
	Digest string // of the intentions and the default in the maps, as policy.Table.Digest; "" where Err is set
	Err    error  // why the policy that was applied last isn't in force
}

// Revision tells what the maps hold: the sum is that of the entries which this process
// has written or read, and Verify compares each of those with the map. The default is
// read at each call.
func (k *Kernel) Revision() Revision {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := Revision{Number: k.number, Err: k.failed}
	allow, err := k.conf.Objects.Default()
	if out.Err = errors.Join(out.Err, err); out.Err != nil {
		return out
	}
	out.Digest = k.rules.sum.Digest(actionOf(allow))
	return out
}

func actionOf(allow bool) policy.Action {
	if allow {
		return policy.Allow
	}
	return policy.Deny
}

// ruleSum sums the entries of the map of intentions that are the mesh's policy, by
// name: numbers differ from node to node.
type ruleSum struct {
	numbers Numbers
	sum     policy.Sum
}

// put and remove are told of each entry that is written or removed.
func (r *ruleSum) put(p bpf.Pair, allow bool) {
	if i, counts := r.rule(p, allow); counts {
		r.sum.Add(i)
	}
}

func (r *ruleSum) remove(p bpf.Pair, allow bool) {
	if i, counts := r.rule(p, allow); counts {
		r.sum.Remove(i)
	}
}

// reset sums all entries anew.
func (r *ruleSum) reset(held map[bpf.Pair]bool) {
	r.sum = policy.Sum{}
	for p, allow := range held {
		r.put(p, allow)
	}
}

// rule is the intention that an entry stands for. Entries of this node's own callers
// and of subsets don't count: they follow from other things than the policy. Those
// of numbers that nobody has count, since nobody of this process wrote them.
func (r *ruleSum) rule(p bpf.Pair, allow bool) (i policy.Intention, counts bool) {
	i = policy.Intention{Source: r.name(p.Source), Destination: r.name(p.Destination), Action: actionOf(allow)}
	return i, ofMesh(i.Source) && ofMesh(i.Destination)
}

func (r *ruleSum) name(number uint32) identity.Name {
	if number == bpf.Any {
		return policy.Any
	}
	if name, known := r.numbers.Name(number); known {
		return name
	}
	return identity.Name(fmt.Sprint("#", number))
}

// ofMesh says whether an intention can name it: neither a subset ("v1.db") nor a
// caller of the daemon's own ("tacit/check").
func ofMesh(name identity.Name) bool {
	return name.IsIngress() || !strings.ContainsAny(string(name), "./")
}
