// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// fakeHost keeps our state in maps and slices, and iptables with rules of another program.
type fakeHost struct {
	haveRoutes []route
	haveRules  []rule
	families   map[bool]*fakeTables // nil: not installed
	changes    int
}

func newFakeHost() *fakeHost {
	h := &fakeHost{families: map[bool]*fakeTables{}}
	for _, v6 := range []bool{false, true} {
		h.families[v6] = &fakeTables{host: h, chains: map[string][]string{
			"mangle PREROUTING": {"-j OTHERS"}, "mangle OTHERS": {"-j ACCEPT"},
			"raw PREROUTING": {"-j ACCEPT"}, "raw OUTPUT": {},
		}}
	}
	return h
}

func (h *fakeHost) routes() ([]route, error) { return slices.Clone(h.haveRoutes), nil }
func (h *fakeHost) rules() ([]rule, error)   { return slices.Clone(h.haveRules), nil }
func (h *fakeHost) addRoute(r route) error   { return fakeAdd(h, &h.haveRoutes, r) }
func (h *fakeHost) addRule(r rule) error     { return fakeAdd(h, &h.haveRules, r) }
func (h *fakeHost) delRoute(r route) error   { return fakeDel(h, &h.haveRoutes, r) }
func (h *fakeHost) delRule(r rule) error     { return fakeDel(h, &h.haveRules, r) }

func (h *fakeHost) tables(v6 bool) (tables, error) {
	if h.families[v6] == nil {
		return nil, ErrNoIptables
	}
	return h.families[v6], nil
}

func fakeAdd[T comparable](h *fakeHost, list *[]T, x T) error {
	if slices.Contains(*list, x) {
		return errors.New("added twice")
	}
	h.changes++
	*list = append(*list, x)
	return nil
}

func fakeDel[T comparable](h *fakeHost, list *[]T, x T) error {
	i := slices.Index(*list, x)
	if i < 0 {
		return errors.New("removed twice")
	}
	h.changes++
	*list = slices.Delete(*list, i, i+1)
	return nil
}

// fakeTables is one family's iptables: "table chain" to rules.
type fakeTables struct {
	host   *fakeHost
	chains map[string][]string
}

func (f *fakeTables) holds(string) bool { return true }

func (f *fakeTables) rules(table, chain string) ([]string, bool, error) {
	rules, ok := f.chains[table+" "+chain]
	return slices.Clone(rules), ok, nil
}

func (f *fakeTables) Exists(table, chain string, spec ...string) (bool, error) {
	return slices.Contains(f.chains[table+" "+chain], strings.Join(spec, " ")), nil
}

func (f *fakeTables) NewChain(table, chain string) error {
	if _, ok := f.chains[table+" "+chain]; ok {
		return errors.New("chain exists")
	}
	f.host.changes++
	f.chains[table+" "+chain] = nil
	return nil
}

func (f *fakeTables) Insert(table, chain string, pos int, spec ...string) error {
	rules, ok := f.chains[table+" "+chain]
	if !ok || pos > len(rules)+1 {
		return fmt.Errorf("no position %d in %s", pos, chain)
	}
	f.host.changes++
	f.chains[table+" "+chain] = slices.Insert(rules, pos-1, strings.Join(spec, " "))
	return nil
}

func (f *fakeTables) Delete(table, chain string, spec ...string) error {
	i := slices.Index(f.chains[table+" "+chain], strings.Join(spec, " "))
	if i < 0 {
		return errors.New("no such rule")
	}
	return f.DeleteById(table, chain, i+1)
}

func (f *fakeTables) DeleteById(table, chain string, id int) error {
	f.host.changes++
	f.chains[table+" "+chain] = slices.Delete(f.chains[table+" "+chain], id-1, id)
	return nil
}

func (f *fakeTables) ClearAndDeleteChain(table, chain string) error {
	for name, rules := range f.chains {
		if strings.HasPrefix(name, table+" ") && slices.Contains(rules, "-j "+chain) {
			return errors.New("chain is in use")
		}
	}
	f.host.changes++
	delete(f.chains, table+" "+chain)
	return nil
}

// dump is the whole fake as text, for comparing.
func (h *fakeHost) dump() string {
	var b strings.Builder
	fmt.Fprintln(&b, h.haveRoutes, h.haveRules)
	for _, v6 := range []bool{false, true} {
		if h.families[v6] != nil {
			fmt.Fprintln(&b, h.families[v6].chains)
		}
	}
	return b.String()
}

func TestApplyConverges(t *testing.T) {
	const (
		steer = "mangle TACIT-PREROUTING"
		untrk = "raw TACIT-OUTPUT"
	)
	applied := func(change func(v4, v6 map[string][]string)) func(*testing.T, *fakeHost) {
		return func(t *testing.T, h *fakeHost) {
			mustApply(t, h, NewPlan(everything()))
			change(h.families[false].chains, h.families[true].chains)
		}
	}
	other := NewPlan(with(func(c *Config) { c.Port4, c.DNSPort4 = 1, 2 }))
	for _, tt := range []struct {
		name   string
		before func(*testing.T, *fakeHost)
		drift  int // lines
	}{
		{"empty host", func(*testing.T, *fakeHost) {}, 42},
		{"in force", applied(func(_, _ map[string][]string) {}), 0},
		{"guard only", func(t *testing.T, h *fakeHost) { mustApply(t, h, GuardPlan(everything())) }, 40},
		{"other ports", func(t *testing.T, h *fakeHost) { mustApply(t, h, other) }, 4},
		{"flushed", applied(func(v4, v6 map[string][]string) {
			v4["mangle PREROUTING"], v6[steer], v6[untrk] = nil, nil, nil
		}), 8},
		{"jump twice, strange rule in front", applied(func(_, v6 map[string][]string) {
			v6["mangle PREROUTING"] = append(v6["mangle PREROUTING"], "-j TACIT-PREROUTING")
			v6[steer] = append([]string{"-j STRANGE"}, v6[steer]...)
		}), 2},
		{"others before us, where they may", applied(func(v4, _ map[string][]string) {
			v4["mangle PREROUTING"] = slices.Insert(v4["mangle PREROUTING"], 0, "-j STRANGE")
		}), 0},
		{"others before us, where they may not, and twice", applied(func(v4, _ map[string][]string) {
			v4["raw PREROUTING"] = slices.Insert(v4["raw PREROUTING"], 0, "-j STRANGE")
			v4["raw OUTPUT"] = []string{"-j STRANGE", "-j TACIT-OUTPUT", "-j TACIT-OUTPUT"}
		}), 2},
		{"another order of rules", applied(func(v4, _ map[string][]string) { slices.Reverse(v4[untrk]) }), 1},
		{"route and rule gone", func(t *testing.T, h *fakeHost) {
			mustApply(t, h, NewPlan(everything()))
			h.haveRoutes, h.haveRules = h.haveRoutes[:1], nil
		}, 7},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, want := newFakeHost(), newFakeHost()
			plan := NewPlan(everything())
			mustApply(t, want, plan)
			tt.before(t, h)
			lines, err := drift(h, plan)
			if err != nil || len(lines) != tt.drift {
				t.Errorf("drift = %d lines, %v; want %d:\n%s", len(lines), err, tt.drift, strings.Join(lines, "\n"))
			}
			mustApply(t, h, plan)
			for _, c := range plan.chains {
				got, want := h.families[c.v6].chains[c.table+" "+c.name()], want.families[c.v6].chains[c.table+" "+c.name()]
				if !slices.Equal(got, want) {
					t.Errorf("chain = %q, want %q", got, want)
				}
				parent := h.families[c.v6].chains[c.table+" "+c.parent]
				if c.first() && parent[0] != "-j "+c.name() {
					t.Errorf("%s %s begins with %q", c.table, c.parent, parent[0])
				}
			}
			if lines, err := drift(h, plan); err != nil || len(lines) != 0 {
				t.Errorf("drift after apply = %q, %v", lines, err)
			}
			changes := h.changes
			mustApply(t, h, plan)
			if h.changes != changes {
				t.Errorf("a second apply changed %d things", h.changes-changes)
			}
			mustApply(t, h, Plan{})
			if got := h.dump(); strings.Contains(got, "TACIT") || len(h.haveRoutes)+len(h.haveRules) > 0 {
				t.Errorf("cleanup left:\n%s", got)
			}
		})
	}
}

func TestGuardPlanRemovesNothing(t *testing.T) {
	h := newFakeHost()
	mustApply(t, h, NewPlan(everything()))
	before := h.dump()
	mustApply(t, h, GuardPlan(everything()))
	if got := h.dump(); got != before {
		t.Errorf("guard changed a running daemon's state:\n%s", got)
	}
	if lines, err := drift(h, GuardPlan(everything())); err != nil || len(lines) != 0 {
		t.Errorf("drift = %q, %v", lines, err)
	}
}

func TestNoIptables(t *testing.T) {
	h := &fakeHost{families: map[bool]*fakeTables{}}
	if err := apply(h, NewPlan(everything())); !errors.Is(err, ErrNoIptables) {
		t.Errorf("apply with tproxy = %v, want %v", err, ErrNoIptables)
	}
	if h.changes != 0 {
		t.Errorf("a refused plan changed %d things", h.changes)
	}
	mustApply(t, h, NewPlan(with(func(c *Config) { c.TPROXY = false })))
	mustApply(t, h, Plan{})
}

func mustApply(t *testing.T, h host, p Plan) {
	t.Helper()
	if err := apply(h, p); err != nil {
		t.Fatal(err)
	}
}
