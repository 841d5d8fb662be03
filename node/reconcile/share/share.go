// SPDX-License-Identifier: Apache-2.0

// Package share divides the room of the kernel's maps among the members: what one
// announces beyond its share is left out on every node alike, and takes no room from
// the others. It must not look at anything but records: not at who answers, nor at what
// this node has proven, so that all nodes leave out the same.
package share

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"

	"tacit/identity"
	"tacit/policy/ledger/statement"
	"tacit/policy/resolver"
)

// maxInstances is how many instances of one service a member may have.
const maxInstances = 64

// rooms are what the members share in each map, by what they announce: seven eighths
// of bpf/maps.h, whose rest is for what a node defines itself; and half of the names,
// which the services have as well.
func rooms() []room {
	return []room{
		{"ports", 57344, ports, func(d *division, in statement.Instance) int { return 4 * d.each(in) }},
		{"real addresses", 57344, addresses, func(d *division, in statement.Instance) int { return 1 + len(d.node(in).Also) }},
		{"addresses outside of the mesh", 14336, outside, func(_ *division, in statement.Instance) int { return outsiders(in) }},
		{"tags and names outside of the mesh", 32768, names, func(_ *division, in statement.Instance) int {
			return namesOfTag*len(in.Tags) + outsiders(in)
		}},
	}
}

type room struct {
	what     string
	capacity int
	needs    func(*division, statement.Instance) []need
	most     func(*division, statement.Instance) int // at least the weight of needs
}

// need is an entry that an instance needs, and how many it stands for. Instances of
// several members may need the same one.
type need struct {
	entry  string
	weight int
}

// Records are those from which the catalog is made.
type Records interface {
	Instances() []statement.Instance
	Node(identity.Name) (statement.Node, bool)
	Resolvers() []resolver.Rules
}

// Excess is what a member announces beyond its share.
type Excess struct {
	Node            identity.Name
	What            string
	Announces, Used int
}

// String is "host3 announces 900 ports; 32 are used".
func (e Excess) String() string {
	return fmt.Sprintf("%s announces %d %s; %d are used", e.Node, e.Announces, e.What, e.Used)
}

// Shares say which instances are left out.
type Shares struct {
	out    map[key]bool
	Excess []Excess // in order of the nodes
}

type key struct {
	node identity.Name
	id   string
}

// Keep returns the instances that aren't left out.
func (s Shares) Keep(list []statement.Instance) []statement.Instance {
	if len(s.out) == 0 {
		return list
	}
	return slices.DeleteFunc(slices.Clone(list), func(in statement.Instance) bool { return s.out[key{in.Node, in.ID}] })
}

// Divide finds out what is left out. Where everything fits, that is nothing beyond
// maxInstances.
func Divide(r Records) Shares {
	d := &division{records: r, subsets: map[identity.Name]int{}, shares: Shares{out: map[key]bool{}}}
	for _, rules := range r.Resolvers() {
		d.subsets[rules.Service] = len(rules.Subsets)
	}
	all := slices.Clone(r.Instances())
	slices.SortFunc(all, func(a, b statement.Instance) int {
		return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Service, b.Service), cmp.Compare(a.ID, b.ID))
	})
	d.count(all)
	for _, m := range rooms() {
		d.divide(m, d.shares.Keep(all))
	}
	slices.SortStableFunc(d.shares.Excess, func(a, b Excess) int { return cmp.Compare(a.Node, b.Node) })
	return d.shares
}

type division struct {
	records Records
	subsets map[identity.Name]int // of a service
	shares  Shares
}

// count leaves out the instances of a service beyond the first ones on a node.
func (d *division) count(sorted []statement.Instance) {
	for start := 0; start < len(sorted); {
		end, first := start, sorted[start]
		for end < len(sorted) && sorted[end].Node == first.Node && sorted[end].Service == first.Service {
			if end-start >= maxInstances {
				d.shares.out[key{first.Node, sorted[end].ID}] = true
			}
			end++
		}
		if n := end - start; n > maxInstances {
			d.shares.Excess = append(d.shares.Excess, Excess{first.Node, "instances of " + string(first.Service), n, maxInstances})
		}
		start = end
	}
}

// divide leaves out the instances for which a map has no room.
func (d *division) divide(m room, all []statement.Instance) {
	total := 0
	for _, in := range all {
		total += m.most(d, in)
	}
	if total <= m.capacity {
		return // as in all meshes but the largest
	}
	needs := make([][]need, len(all))
	for i, in := range all {
		needs[i] = m.needs(d, in)
	}
	members := wanted(all, needs)
	assign(members)
	refused := refuse(members, m.capacity)
	for i, in := range all {
		if slices.ContainsFunc(needs[i], func(n need) bool { return refused[n.entry] }) {
			d.shares.out[key{in.Node, in.ID}] = true
		}
	}
	for _, mem := range members {
		used := 0
		for _, n := range mem.wants {
			if !refused[n.entry] {
				used += n.weight
			}
		}
		if used < mem.total {
			d.shares.Excess = append(d.shares.Excess, Excess{mem.node, m.what, mem.total, used})
		}
	}
}

// member is what one needs in a map, each entry once.
type member struct {
	node  identity.Name
	wants []need
	total int
	pays  []need // those that count against its share
	paid  int
}

func wanted(sorted []statement.Instance, needs [][]need) []*member {
	var out []*member
	var seen map[string]bool
	for i, in := range sorted {
		if len(out) == 0 || out[len(out)-1].node != in.Node {
			out, seen = append(out, &member{node: in.Node}), map[string]bool{}
		}
		m := out[len(out)-1]
		for _, n := range needs[i] {
			if !seen[n.entry] {
				seen[n.entry] = true
				m.wants, m.total = append(m.wants, n), m.total+n.weight
			}
		}
	}
	return out
}

// assign has each entry count against the member that needs the least of all who
// need it: a member that announces very much doesn't take the entries of others along.
func assign(members []*member) {
	modest := slices.Clone(members)
	slices.SortStableFunc(modest, func(a, b *member) int { return cmp.Compare(a.total, b.total) })
	taken := map[string]bool{}
	for _, m := range modest {
		for _, n := range m.wants {
			if !taken[n.entry] {
				taken[n.entry] = true
				m.pays, m.paid = append(m.pays, n), m.paid+n.weight
			}
		}
	}
}

// refuse returns the entries beyond the shares.
func refuse(members []*member, capacity int) map[string]bool {
	var charges []int
	for _, m := range members {
		charges = append(charges, m.paid)
	}
	most, refused := limit(charges, capacity), map[string]bool{}
	for _, m := range members {
		left := most
		for _, n := range m.pays {
			if left -= n.weight; left < 0 {
				refused[n.entry] = true
			}
		}
	}
	return refused
}

// limit is how much each may have so that all together fit: the capacity that
// those leave who need less is divided among the others.
func limit(charges []int, capacity int) int {
	slices.Sort(charges)
	for i, c := range charges {
		if share := capacity / (len(charges) - i); c > share {
			return share
		}
		capacity -= c
	}
	return math.MaxInt
}

// ports are the entries of a service: one for each port, one that marks it as known,
// and 80 and 443; and the same for each subset.
func ports(d *division, in statement.Instance) []need {
	if in.Port == 0 {
		return nil
	}
	each := d.each(in)
	return []need{{string(in.Service), 3 * each}, {string(in.Service) + " " + port(in), each}}
}

// each is how many services the kernel sees in one: itself, and its subsets.
func (d *division) each(in statement.Instance) int { return 1 + d.subsets[in.Service] }

func (d *division) node(in statement.Instance) statement.Node {
	host, _ := d.records.Node(in.Node)
	return host
}

func port(in statement.Instance) string { return strconv.Itoa(int(in.Port)) }

// addresses are those at which an instance is called by its real address.
func addresses(d *division, in statement.Instance) (out []need) {
	if in.Port == 0 || in.Outside != nil || in.Place != "" {
		return nil
	}
	host := d.node(in)
	all := append([]string{host.Address}, host.Also...)
	if in.Address != "" {
		all = []string{in.Address}
	}
	for _, a := range all {
		out = append(out, need{a + " " + port(in), 1})
	}
	return out
}

func outside(_ *division, in statement.Instance) (out []need) {
	if in.Outside != nil {
		for _, a := range in.Outside.Addresses {
			out = append(out, need{a, 1})
		}
	}
	return out
}

// outsiders are at least so many as an instance has addresses, or names, outside.
func outsiders(in statement.Instance) int {
	if in.Outside == nil {
		return 0
	}
	return len(in.Outside.Addresses) + len(in.Outside.Hosts)
}

// namesOfTag is how many names below consul a tag of a service makes.
const namesOfTag = 6

func names(_ *division, in statement.Instance) (out []need) {
	for _, tag := range in.Tags {
		out = append(out, need{string(in.Service) + " " + tag, namesOfTag})
	}
	if in.Outside != nil {
		for _, host := range in.Outside.Hosts {
			out = append(out, need{host, 1})
		}
	}
	return out
}
