// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

const mangle = "mangle"

// tables is the part of iptables that is needed, for one family. All names are go-iptables' own.
type tables interface {
	ListChains(table string) ([]string, error)
	List(table, chain string) ([]string, error) // as iptables -S prints them
	Exists(table, chain string, spec ...string) (bool, error)
	NewChain(table, chain string) error
	Insert(table, chain string, pos int, spec ...string) error
	Delete(table, chain string, spec ...string) error
	DeleteById(table, chain string, id int) error // positions count from 1
	ClearAndDeleteChain(table, chain string) error
}

// compareChain adds to d how the host's chain of one family differs from the plan's.
func compareChain(d *difference, h host, p Plan, v6 bool) error {
	i := slices.IndexFunc(p.chains, func(c chain) bool { return c.v6 == v6 })
	t, err := h.tables(v6)
	if errors.Is(err, ErrNoIptables) && i < 0 {
		return nil
	}
	if err != nil {
		return err
	}
	if i < 0 {
		return compareNoChain(d, t, chain{v6: v6})
	}
	return compareOurChain(d, t, p.chains[i])
}

// compareNoChain is for a family of which the plan has no chain.
func compareNoChain(d *difference, t tables, c chain) error {
	found, err := chainExists(t)
	if unsupported(err) {
		return nil
	}
	if err != nil || !found {
		return err
	}
	jumps, err := countJumps(t)
	if err != nil {
		return err
	}
	d.remove(c.newText(), func() error { return t.ClearAndDeleteChain(mangle, chainName) })
	for range jumps {
		d.remove(c.jumpText(), func() error { return t.Delete(mangle, "PREROUTING", "-j", chainName) })
	}
	return nil
}

// compareOurChain is for a family of which the plan has a chain. The jump comes last, when the chain is whole.
func compareOurChain(d *difference, t tables, c chain) error {
	found, err := chainExists(t)
	if err != nil {
		return err
	}
	jumps := 0
	if found {
		if jumps, err = countJumps(t); err != nil {
			return err
		}
	} else {
		d.add(c.newText(), func() error { return t.NewChain(mangle, chainName) })
	}
	if err := compareSpecs(d, t, c, found); err != nil {
		return err
	}
	if jumps == 0 {
		d.add(c.jumpText(), func() error { return t.Insert(mangle, "PREROUTING", 1, "-j", chainName) })
	}
	for range jumps - 1 {
		d.remove(c.jumpText(), func() error { return t.Delete(mangle, "PREROUTING", "-j", chainName) })
	}
	return nil
}

// compareSpecs compares the rules inside the chain. Whether a rule is there is left to iptables: it prints rules in
// another order and form than it takes them, and not the same in every version.
func compareSpecs(d *difference, t tables, c chain, found bool) error {
	present, lines := 0, 0
	for i, spec := range c.specs {
		if found {
			ok, err := t.Exists(mangle, chainName, spec...)
			if err != nil {
				return fmt.Errorf("check %q: %w", c.specText(i), err)
			}
			if ok {
				present++
				continue
			}
		}
		d.add(c.specText(i), func() error { return t.Insert(mangle, chainName, i+1, spec...) })
	}
	if found {
		var err error
		if lines, err = countRules(t); err != nil {
			return err
		}
	}
	if lines > present {
		text := fmt.Sprintf("%s -t mangle -S %s has %d rules too many", c.command(), chainName, lines-present)
		d.remove(text, func() error { return rewrite(t, c) })
	}
	return nil
}

// rewrite makes the chain hold exactly the plan's rules, without a moment in which one of them is not there.
func rewrite(t tables, c chain) error {
	for i, spec := range c.specs {
		if err := t.Insert(mangle, chainName, i+1, spec...); err != nil {
			return err
		}
	}
	n, err := countRules(t)
	if err != nil {
		return err
	}
	for ; n > len(c.specs); n-- {
		if err := t.DeleteById(mangle, chainName, n); err != nil {
			return err
		}
	}
	return nil
}

func chainExists(t tables) (bool, error) {
	names, err := t.ListChains(mangle)
	if err != nil {
		return false, fmt.Errorf("list the chains of the mangle table: %w", err)
	}
	return slices.Contains(names, chainName), nil
}

func countRules(t tables) (int, error) {
	return count(t, chainName, func(line string) bool { return strings.HasPrefix(line, "-A ") })
}

func countJumps(t tables) (int, error) {
	return count(t, "PREROUTING", func(line string) bool { return line == "-A PREROUTING -j "+chainName })
}

func count(t tables, chain string, match func(string) bool) (int, error) {
	lines, err := t.List(mangle, chain)
	if err != nil {
		return 0, fmt.Errorf("list the chain %s of the mangle table: %w", chain, err)
	}
	n := 0
	for _, line := range lines {
		if match(line) {
			n++
		}
	}
	return n, nil
}
