// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"errors"
	"fmt"
	"slices"
)

// Tables of iptables that can hold a chain of ours.
const (
	mangle = "mangle"
	raw    = "raw"
	filter = "filter"
)

// chain is our chain in one table of one family, with the jump to it.
type chain struct {
	v6     bool
	table  string
	parent string     // the built-in chain that jumps to it
	specs  [][]string // iptables arguments, one slice per rule, each in the order in which iptables prints it
}

// places are all chains that a plan can have, without their rules: where a cleanup looks.
func places(v6 bool) []chain {
	return []chain{
		{v6: v6, table: mangle, parent: "PREROUTING"},
		{v6: v6, table: mangle, parent: "OUTPUT"},
		{v6: v6, table: raw, parent: "PREROUTING"},
		{v6: v6, table: raw, parent: "OUTPUT"},
		{v6: v6, table: filter, parent: "INPUT"},
		{v6: v6, table: filter, parent: "OUTPUT"},
	}
}

// name is our prefix and the parent's name; it is the same in every table.
func (c chain) name() string { return chainPrefix + c.parent }

// first says whether the jump must be its parent's first rule, since an ACCEPT before it would bypass ours. In mangle, a
// rule of others that accepts before ours is the operator's choice.
func (c chain) first() bool { return c.table != mangle }

// same says whether two chains have the same place.
func (c chain) same(o chain) bool { return c.v6 == o.v6 && c.table == o.table && c.parent == o.parent }

// tables is what this package needs of iptables, for one family. All methods but the first two are go-iptables'.
type tables interface {
	holds(table string) bool                                          // false: the table doesn't exist, and reading it would create it
	rules(table, chain string) (list []string, found bool, err error) // as iptables -S prints them after "-A CHAIN "
	Exists(table, chain string, spec ...string) (bool, error)
	NewChain(table, chain string) error
	Insert(table, chain string, pos int, spec ...string) error
	Delete(table, chain string, spec ...string) error
	DeleteById(table, chain string, id int) error // positions count from 1
	ClearAndDeleteChain(table, chain string) error
}

// compareChains adds to d how the host's chains of one family differ from the plan's.
func compareChains(d *difference, h host, p Plan, v6 bool) error {
	t, err := h.tables(v6)
	if errors.Is(err, ErrNoIptables) && !slices.ContainsFunc(p.chains, func(c chain) bool { return c.v6 == v6 }) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, c := range places(v6) {
		compare := compareNoChain
		if i := slices.IndexFunc(p.chains, c.same); i >= 0 {
			c, compare = p.chains[i], compareOurChain
		}
		if err := compare(d, t, c); err != nil {
			return err
		}
	}
	return nil
}

// compareNoChain adds the removal of our chain in a place where the plan has none.
func compareNoChain(d *difference, t tables, c chain) error {
	if !t.holds(c.table) {
		return nil
	}
	_, found, err := t.rules(c.table, c.name())
	if err != nil || !found {
		return err
	}
	jumps, err := jumps(t, c)
	if err != nil {
		return err
	}
	d.remove(c.newText(), func() error { return t.ClearAndDeleteChain(c.table, c.name()) })
	for range jumps.count {
		d.remove(c.jumpText(), func() error { return t.Delete(c.table, c.parent, "-j", c.name()) })
	}
	return nil
}

// compareOurChain adds what a chain of the plan lacks. The jump comes last, when the chain is complete.
func compareOurChain(d *difference, t tables, c chain) error {
	have, found, err := t.rules(c.table, c.name())
	if err != nil {
		return err
	}
	var j jumpsIn
	if found {
		if j, err = jumps(t, c); err != nil {
			return err
		}
	} else {
		d.add(c.newText(), func() error { return t.NewChain(c.table, c.name()) })
	}
	if err := compareSpecs(d, t, c, have); err != nil {
		return err
	}
	switch {
	case j.count == 0:
		d.add(c.jumpText(), func() error { return t.Insert(c.table, c.parent, 1, "-j", c.name()) })
	case c.first() && !j.first:
		d.add(c.jumpText(), func() error { return moveJump(t, c, j.count) })
	default:
		for range j.count - 1 {
			d.remove(c.jumpText(), func() error { return t.Delete(c.table, c.parent, "-j", c.name()) })
		}
	}
	return nil
}

// moveJump makes the jump the first rule again. It deletes the jump by its text: another program may change the chain,
// and with it the positions, at the same time.
func moveJump(t tables, c chain, count int) error {
	for range count {
		if err := t.Delete(c.table, c.parent, "-j", c.name()); err != nil {
			return err
		}
	}
	return t.Insert(c.table, c.parent, 1, "-j", c.name())
}

// compareSpecs compares the plan's rules of a chain with have, those that iptables lists. A rule whose text is not in have
// is checked with iptables -C, since not every version prints a rule in the same order and form.
func compareSpecs(d *difference, t tables, c chain, have []string) error {
	present, last, ordered := 0, -1, true
	for i, spec := range c.specs {
		at := slices.Index(have, printed(spec))
		ok := at >= 0
		if ok {
			ordered, last = ordered && at > last, at
		} else if len(have) > 0 {
			var err error
			if ok, err = t.Exists(c.table, c.name(), spec...); err != nil {
				return fmt.Errorf("check %q: %w", c.specText(i), err)
			}
		}
		if ok {
			present++
			continue
		}
		d.add(c.specText(i), func() error { return t.Insert(c.table, c.name(), i+1, spec...) })
	}
	if len(have) > present || !ordered {
		text := fmt.Sprintf("%s -t %s -S %s has %d rules too many, or in another order", c.command(), c.table, c.name(), len(have)-present)
		d.remove(text, func() error { return rewrite(t, c) })
	}
	return nil
}

// rewrite makes the chain hold exactly the plan's rules. At no time is one of them absent.
func rewrite(t tables, c chain) error {
	for i, spec := range c.specs {
		if err := t.Insert(c.table, c.name(), i+1, spec...); err != nil {
			return err
		}
	}
	have, _, err := t.rules(c.table, c.name())
	if err != nil {
		return err
	}
	for n := len(have); n > len(c.specs); n-- {
		if err := t.DeleteById(c.table, c.name(), n); err != nil {
			return err
		}
	}
	return nil
}

// jumpsIn counts the jumps to a chain in its parent; first: one of them is the parent's first rule.
type jumpsIn struct {
	count int
	first bool
}

func jumps(t tables, c chain) (j jumpsIn, err error) {
	list, _, err := t.rules(c.table, c.parent)
	for i, rule := range list {
		if rule == "-j "+c.name() {
			j.count++
			j.first = j.first || i == 0
		}
	}
	return j, err
}
