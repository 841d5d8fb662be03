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
	out.Digest = k.rules.digest(actionOf(allow))
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
	numbers  Numbers
	sum      policy.Sum
	nameless map[bpf.Pair]policy.Intention // counted with a number that nobody had then
}

// put and remove are told of each entry that is written or removed.
func (r *ruleSum) put(p bpf.Pair, allow bool) {
	i, known := r.rule(p, actionOf(allow))
	if !known {
		if r.nameless == nil {
			r.nameless = map[bpf.Pair]policy.Intention{}
		}
		r.nameless[p] = i
	}
	if counts(i) {
		r.sum.Add(i)
	}
}

func (r *ruleSum) remove(p bpf.Pair, allow bool) {
	i, nameless := r.nameless[p]
	if !nameless {
		i, _ = r.rule(p, actionOf(allow))
	}
	delete(r.nameless, p)
	if counts(i) {
		r.sum.Remove(i)
	}
}

// reset sums all entries anew.
func (r *ruleSum) reset(held map[bpf.Pair]bool) {
	r.sum, r.nameless = policy.Sum{}, nil
	for p, allow := range held {
		r.put(p, allow)
	}
}

// digest is that of the entries. After a restart the maps are read before all numbers
// have their names again.
func (r *ruleSum) digest(def policy.Action) string {
	for p, i := range r.nameless {
		if _, known := r.rule(p, i.Action); known {
			r.remove(p, i.Action == policy.Allow)
			r.put(p, i.Action == policy.Allow)
		}
	}
	return r.sum.Digest(def)
}

// rule is the intention that an entry stands for, and whether both names are known.
func (r *ruleSum) rule(p bpf.Pair, action policy.Action) (i policy.Intention, known bool) {
	src, is := r.name(p.Source)
	dst, too := r.name(p.Destination)
	return policy.Intention{Source: src, Destination: dst, Action: action}, is && too
}

func (r *ruleSum) name(number uint32) (name identity.Name, known bool) {
	if number == bpf.Any {
		return policy.Any, true
	}
	if name, known := r.numbers.Name(number); known {
		return name, true
	}
	return identity.Name(fmt.Sprint("#", number)), false
}

// counts says whether an entry is the mesh's policy. Those of this node's own callers
// and of subsets follow from other things. Those of numbers that nobody has count,
// since nobody of this process wrote them.
func counts(i policy.Intention) bool { return ofMesh(i.Source) && ofMesh(i.Destination) }

// ofMesh says whether an intention can name it: neither a subset ("v1.db") nor a
// caller of the daemon's own ("tacit/check").
func ofMesh(name identity.Name) bool {
	return name.IsIngress() || !strings.ContainsAny(string(name), "./")
}
