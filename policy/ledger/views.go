// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"maps"
	"slices"

	"tacit/identity"
	"tacit/policy"
	"tacit/policy/ledger/statement"
	"tacit/policy/resolver"
)

// views is what is in force. Writers keep it up to date, so that reading is a
// look-up.
type views struct {
	trust
	memberKeys map[identity.Name]identity.KeyID
	members    map[identity.Name]statement.Member
	nodes      map[identity.Name]statement.Node
	grants     map[identity.Name]map[identity.Name][]string    // node, service; statement.Grant.Outside
	instances  map[identity.Name]map[string]statement.Instance // node, key; granted or not
	intentions map[string]policy.Intention
	resolvers  map[identity.Name]resolver.Rules
}

// rebuild derives all views, each kind from the kinds before it.
func (l *Ledger) rebuild() {
	l.view = views{
		trust:      l.deriveTrust(),
		memberKeys: map[identity.Name]identity.KeyID{},
		members:    map[identity.Name]statement.Member{},
		nodes:      map[identity.Name]statement.Node{},
		grants:     map[identity.Name]map[identity.Name][]string{},
		instances:  map[identity.Name]map[string]statement.Instance{},
		intentions: map[string]policy.Intention{},
		resolvers:  map[identity.Name]resolver.Rules{},
	}
	for _, k := range kindsInOrder() {
		for key, c := range l.cells[k] {
			l.refresh(k, key, c)
		}
	}
	l.dirty = nil
	l.gen++
}

func kindsInOrder() []Kind {
	return slices.SortedFunc(maps.Keys(ranks), func(a, b Kind) int { return ranks[a] - ranks[b] })
}

// refresh derives one cell's heads and their views.
func (l *Ledger) refresh(k Kind, key string, c *cell) {
	var counting []*entry
	for _, e := range c.slots {
		if l.counts(e) {
			counting = append(counting, e)
		}
	}
	c.heads = headsOf(counting)
	l.gen++
	win := winner(c.heads)
	switch k {
	case KindAuthority:
		for _, id := range keysOf(c.heads) {
			if !l.view.revoked[id] {
				l.view.authorities[id] = true
			}
		}
	case KindMember:
		l.refreshMember(identity.Name(key), win)
	case KindNode:
		set(l.view.nodes, identity.Name(key), win)
	case KindGrant:
		l.refreshGrant(key, win)
	case KindInstance:
		inner(l.view.instances, nodeOf(key))
		set(l.view.instances[nodeOf(key)], key, win)
	case KindIntention:
		delete(l.view.intentions, key)
		if i, ok := intentionOf(c.heads); ok {
			l.view.intentions[key] = i
		}
	case KindResolver:
		set(l.view.resolvers, identity.Name(key), win)
	}
}

// set sets m[k] to the winner's body, or deletes m[k] if there is no winner.
func set[K comparable, V any](m map[K]V, k K, win *entry) {
	if win == nil {
		delete(m, k)
		return
	}
	m[k] = win.body.(V)
}

func inner[K, L comparable, V any](m map[K]map[L]V, k K) {
	if m[k] == nil {
		m[k] = map[L]V{}
	}
}

// refreshMember also refreshes the records that the node signs if its key changed.
func (l *Ledger) refreshMember(node identity.Name, win *entry) {
	old, had := l.view.memberKeys[node]
	set(l.view.members, node, win)
	delete(l.view.memberKeys, node)
	if win != nil {
		l.view.memberKeys[node] = win.sub
	}
	if now, has := l.view.memberKeys[node]; now == old && has == had {
		return
	}
	if c := l.cells[KindNode][string(node)]; c != nil {
		l.refresh(KindNode, string(node), c)
	}
	if c := l.cells[KindFloor][string(node)]; c != nil {
		l.refresh(KindFloor, string(node), c)
	}
	for _, key := range l.byNode[node] {
		l.refresh(KindInstance, key, l.cells[KindInstance][key])
	}
}

func (l *Ledger) refreshGrant(key string, win *entry) {
	node := nodeOf(key)
	service := identity.Name(key[len(node)+1:])
	inner(l.view.grants, node)
	delete(l.view.grants[node], service)
	if win != nil {
		l.view.grants[node][service] = win.body.(statement.Grant).Outside
	}
}

// IsOperator reports whether the key is an operator's, and not revoked.
func (l *View) IsOperator(id identity.KeyID) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.view.operators[id]
}

// IsAuthority reports whether the key is an intermediate's, and not revoked.
func (l *View) IsAuthority(id identity.KeyID) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.view.authorities[id]
}

// Revoked reports whether the key is revoked.
func (l *View) Revoked(id identity.KeyID) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.view.revoked[id]
}

// Member returns the member of that name; there is none while two keys claim it.
func (l *View) Member(node identity.Name) (statement.Member, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	m, ok := l.view.members[node]
	return m, ok
}

// Members returns all members, by name.
func (l *View) Members() []statement.Member {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return sorted(l.view.members)
}

// Node returns a member's address and ports.
func (l *View) Node(node identity.Name) (statement.Node, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	n, ok := l.view.nodes[node]
	return n, ok
}

// Granted reports whether a member may run a service: two look-ups.
func (l *View) Granted(node, service identity.Name) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.granted(node, service)
}

func (l *View) granted(node, service identity.Name) bool {
	_, member := l.view.members[node]
	_, granted := l.view.grants[node][service]
	return member && granted
}

// Grants returns the services that an operator granted to a node, sorted,
// whether or not it is a member yet.
func (l *View) Grants(node identity.Name) []identity.Name {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return slices.Sorted(maps.Keys(l.view.grants[node]))
}

// Instances returns the instances on members with a grant for the service, by key.
// The caller must not change Tags and Meta.
func (l *View) Instances() []statement.Instance {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var out []statement.Instance
	for _, node := range slices.Sorted(maps.Keys(l.view.instances)) {
		for _, i := range sorted(l.view.instances[node]) {
			if l.granted(node, i.Service) {
				out = append(out, i)
			}
		}
	}
	return out
}

// Published returns the instances that a member announces, granted or not, by key, for
// the node itself to withdraw.
func (l *View) Published(node identity.Name) []statement.Instance {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return sorted(l.view.instances[node])
}

// Intentions returns the intentions in force, one per pair, by key.
func (l *View) Intentions() []policy.Intention {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return sorted(l.view.intentions)
}

// Resolvers returns the rules in force for services' connections, by service. The
// caller must not change them.
func (l *View) Resolvers() []resolver.Rules {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return sorted(l.view.resolvers)
}

// Operators returns the operators that aren't revoked, by key.
func (l *View) Operators() []statement.Operator {
	l.mu.RLock()
	defer l.mu.RUnlock()
	found := map[string]statement.Operator{}
	for key, c := range l.cells[KindOperator] {
		var id identity.KeyID
		if win := winner(c.heads); win != nil && id.UnmarshalText([]byte(key)) == nil && l.view.operators[id] {
			found[key] = win.body.(statement.Operator)
		}
	}
	return sorted(found)
}

// Authorities returns the nodes that hold an intermediate in force, sorted.
func (l *View) Authorities() []identity.Name {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var out []identity.Name
	for key, c := range l.cells[KindAuthority] {
		if slices.ContainsFunc(keysOf(c.heads), func(id identity.KeyID) bool { return l.view.authorities[id] }) {
			out = append(out, identity.Name(key))
		}
	}
	slices.Sort(out)
	return out
}

func sorted[K ~string, V any](m map[K]V) []V {
	out := make([]V, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, m[k])
	}
	return out
}
