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
	specs  [][]string // iptables arguments, one slice a rule, in the order in which iptables prints them
}

// places are all the chains that any plan can have, without rules: what a cleanup looks for. Each has the jump to it
// first in its parent or anywhere in it.
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

// name is the same in every table: the parent's with our prefix.
func (c chain) name() string { return chainPrefix + c.parent }

// first says that no rule of others may come before the jump: one that accepts would undo ours. In mangle, what others
// let pass before us is theirs to say.
func (c chain) first() bool { return c.table != mangle }

// same reports that two chains have one place.
func (c chain) same(o chain) bool { return c.v6 == o.v6 && c.table == o.table && c.parent == o.parent }

// tables is the part of iptables that is needed, for one family. All names but the first two are go-iptables' own.
type tables interface {
	holds(table string) bool                                          // false: nothing is in it, and reading it would bring it into being
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

// compareNoChain is for a place where the plan has no chain.
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

// compareOurChain is for a chain of the plan. The jump comes last, when the chain is whole.
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

// moveJump makes the jump the first rule again. Rules are deleted by what they say: others may change the chain at the
// same time, and positions with it.
func moveJump(t tables, c chain, count int) error {
	for range count {
		if err := t.Delete(c.table, c.parent, "-j", c.name()); err != nil {
			return err
		}
	}
	return t.Insert(c.table, c.parent, 1, "-j", c.name())
}

// compareSpecs compares the rules inside the chain with those that it has. A rule that is printed as we wrote it is
// there. For another one iptables is asked: not every version prints rules in the same order and form.
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
		text := fmt.Sprintf("%s -t %s -S %s has %d rules too many, or another order", c.command(), c.table, c.name(), len(have)-present)
		d.remove(text, func() error { return rewrite(t, c) })
	}
	return nil
}

// rewrite makes the chain hold exactly the plan's rules, without a moment in which one of them is not there.
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

// jumpsIn says how often a chain is jumped to, and whether that comes before every other rule.
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
