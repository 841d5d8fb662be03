// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// fakeHost keeps our state in maps and slices, and iptables beside what is foreign.
type fakeHost struct {
	haveRoutes []route
	haveRules  []rule
	families   map[bool]*fakeTables // nil: not installed
	changes    int
}

func newFakeHost() *fakeHost {
	h := &fakeHost{families: map[bool]*fakeTables{}}
	for _, v6 := range []bool{false, true} {
		h.families[v6] = &fakeTables{host: h, chains: map[string][]string{"PREROUTING": {"-j FOREIGN"}, "FOREIGN": {"-j ACCEPT"}}}
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

// fakeTables is one family's mangle table: chain name to rules.
type fakeTables struct {
	host   *fakeHost
	chains map[string][]string
}

func (f *fakeTables) ListChains(string) ([]string, error) {
	var names []string
	for name := range f.chains {
		names = append(names, name)
	}
	return names, nil
}

func (f *fakeTables) List(_, chain string) ([]string, error) {
	lines := []string{"-N " + chain}
	for _, r := range f.chains[chain] {
		lines = append(lines, "-A "+chain+" "+r)
	}
	return lines, nil
}

func (f *fakeTables) Exists(_, chain string, spec ...string) (bool, error) {
	return slices.Contains(f.chains[chain], strings.Join(spec, " ")), nil
}

func (f *fakeTables) NewChain(_, chain string) error {
	if _, ok := f.chains[chain]; ok {
		return errors.New("chain exists")
	}
	f.host.changes++
	f.chains[chain] = nil
	return nil
}

func (f *fakeTables) Insert(_, chain string, pos int, spec ...string) error {
	rules, ok := f.chains[chain]
	if !ok || pos > len(rules)+1 {
		return fmt.Errorf("no position %d in %s", pos, chain)
	}
	f.host.changes++
	f.chains[chain] = slices.Insert(rules, pos-1, strings.Join(spec, " "))
	return nil
}

func (f *fakeTables) Delete(_, chain string, spec ...string) error {
	i := slices.Index(f.chains[chain], strings.Join(spec, " "))
	if i < 0 {
		return errors.New("no such rule")
	}
	return f.DeleteById("", chain, i+1)
}

func (f *fakeTables) DeleteById(_, chain string, id int) error {
	f.host.changes++
	f.chains[chain] = slices.Delete(f.chains[chain], id-1, id)
	return nil
}

func (f *fakeTables) ClearAndDeleteChain(_, chain string) error {
	for _, rules := range f.chains {
		if slices.Contains(rules, "-j "+chain) {
			return errors.New("chain is in use")
		}
	}
	f.host.changes++
	delete(f.chains, chain)
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
	other := NewPlan(with(func(c *Config) { c.Port4, c.DNSPort4 = 1, 2 }))
	for _, tt := range []struct {
		name   string
		before func(*testing.T, *fakeHost)
		drift  int // lines
	}{
		{"empty host", func(*testing.T, *fakeHost) {}, 18},
		{"in force", func(t *testing.T, h *fakeHost) { mustApply(t, h, NewPlan(everything())) }, 0},
		{"guard only", func(t *testing.T, h *fakeHost) { mustApply(t, h, GuardPlan(everything())) }, 16},
		{"other ports", func(t *testing.T, h *fakeHost) { mustApply(t, h, other) }, 4},
		{"flushed", func(t *testing.T, h *fakeHost) {
			mustApply(t, h, NewPlan(everything()))
			h.families[false].chains["PREROUTING"] = nil
			h.families[true].chains[chainName] = nil
		}, 4},
		{"jump twice, strange rule in front", func(t *testing.T, h *fakeHost) {
			mustApply(t, h, NewPlan(everything()))
			f := h.families[true]
			f.chains["PREROUTING"] = append(f.chains["PREROUTING"], "-j "+chainName)
			f.chains[chainName] = append([]string{"-j STRANGE"}, f.chains[chainName]...)
		}, 2},
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
			for _, v6 := range []bool{false, true} {
				if got, want := h.families[v6].chains[chainName], want.families[v6].chains[chainName]; !slices.Equal(got, want) {
					t.Errorf("chain = %q, want %q", got, want)
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
			if got := h.dump(); tt.name != "flushed" && got != newFakeHost().dump() {
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
