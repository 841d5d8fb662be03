// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"tacit/bpf"
	"tacit/identity"
	"tacit/internal/testhost"
	"tacit/policy"
	"tacit/policy/kernel"
)

var (
	range4 = netip.MustParsePrefix("240.64.0.0/12")
	range6 = netip.MustParsePrefix("fd7a:ac17::/32")
)

// numbers gives names their numbers in order of asking; names called "full…"
// get none.
type numbers struct {
	byName map[identity.Name]uint32
	byNum  map[uint32]identity.Name
}

func newNumbers() *numbers {
	return &numbers{map[identity.Name]uint32{}, map[uint32]identity.Name{}}
}

func (n *numbers) Number(name identity.Name) uint32 {
	if len(name) >= 4 && name[:4] == "full" {
		return 0
	}
	if got, ok := n.byName[name]; ok {
		return got
	}
	next := uint32(len(n.byName) + 1)
	n.byName[name], n.byNum[next] = next, name
	return next
}

func (n *numbers) Name(number uint32) (identity.Name, bool) {
	name, ok := n.byNum[number]
	return name, ok
}

// load loads the programs on a host of their own.
func load(t *testing.T, limits bpf.Limits) (*testhost.Host, *bpf.Objects) {
	t.Helper()
	h := testhost.NewNet(t).Host(t, "host1")
	var o *bpf.Objects
	err := h.Do(func() (err error) {
		o, err = bpf.Load(bpf.Config{PinDir: h.BPF, Cgroup: h.Cgroup, DaemonCgroup: 1, Range4: range4, Range6: range6, Limits: limits})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(o.Close(), bpf.Remove(h.BPF)); err != nil {
			t.Error(err)
		}
	})
	return h, o
}

func newKernel(t *testing.T, o *bpf.Objects, n *numbers) *kernel.Kernel {
	t.Helper()
	k, err := kernel.New(kernel.Config{Objects: o, Numbers: n, Range4: range4, Range6: range6, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestKernelDecidesAsGo compares the two implementations of one rule on random
// policies: with wildcards, overlaps, and names that no rule has.
func TestKernelDecidesAsGo(t *testing.T) {
	_, o := load(t, bpf.Limits{})
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	n := newNumbers()
	k := newKernel(t, o, n)
	names := []identity.Name{policy.Any, "a", "b", "c", "d", "e"}
	for range 2000 {
		table := randomTable(r, names)
		if _, err := k.Apply(kernel.State{Table: table}); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			src, dst := names[1+r.IntN(5)], names[1+r.IntN(5)]
			want := table.Decide(src, dst)
			code, err := o.Decide(bpf.Pair{Source: n.Number(src), Destination: n.Number(dst)})
			if err != nil {
				t.Fatal(err)
			}
			if got := kernel.ReasonOf(code); got != want.Reason {
				t.Fatalf("%s -> %s: the kernel says %s, Go says %s, by\n%v", src, dst, got, want.Reason, table.List())
			}
		}
	}
	if code, err := o.Decide(bpf.Pair{Source: 0, Destination: 1}); err != nil || kernel.ReasonOf(code) != policy.ReasonIdentity {
		t.Errorf("nobody: %s, %v", kernel.ReasonOf(code), err)
	}
}

func randomTable(r *rand.Rand, names []identity.Name) *policy.Table {
	var rules []policy.Intention
	for range r.IntN(12) {
		rules = append(rules, policy.Intention{Source: names[r.IntN(len(names))], Destination: names[r.IntN(len(names))],
			Action: policy.Action(1 + r.IntN(2))})
	}
	return policy.NewTable(policy.Deny, rules)
}

// TestReasonsHaveNames: no number of the kernel's is without its one string.
func TestReasonsHaveNames(t *testing.T) {
	seen := map[policy.Reason]bool{}
	for code := range bpf.Reasons {
		name := kernel.ReasonOf(code)
		if name == "" || !slices.Contains(policy.Reasons(), name) || seen[name] {
			t.Errorf("reason %d is called %q: missing, unknown to policy, or twice", code, name)
		}
		seen[name] = true
	}
}

func fullState() kernel.State {
	return kernel.State{
		Table:     policy.NewTable(policy.Deny, []policy.Intention{{Source: "web", Destination: "db", Action: policy.Allow}}),
		Workloads: kernel.Workloads{Cgroups: map[uint64]identity.Name{77: "web"}},
		Endpoints: []kernel.Endpoint{{Service: "db", Port: 5432, Remote: true}},
		Guards:    []kernel.Guard{{Port: 80, Service: "web"}},
		Remotes:   []kernel.Remote{{Addr: netip.MustParseAddrPort("10.0.0.2:5432"), Service: "db"}},
		Upstreams: []kernel.Upstream{{Service: "web", Bind: netip.MustParseAddrPort("127.0.0.1:12000"), Destination: "db", Port: 5432}},
		Locals:    []netip.Addr{netip.MustParseAddr("10.0.0.1")},
	}
}

// TestApplyTwiceIsOnce, over a restart too: the revision counts changes only.
func TestApplyTwiceIsOnce(t *testing.T) {
	_, o := load(t, bpf.Limits{})
	n := newNumbers()
	k := newKernel(t, o, n)
	for i, want := range []bool{true, false} {
		if changed, err := k.Apply(fullState()); err != nil || changed != want {
			t.Fatalf("time %d: changed %v, %v", i+1, changed, err)
		}
	}
	again := newKernel(t, o, n)
	if changed, err := again.Apply(fullState()); err != nil || changed || again.Revision() != k.Revision() {
		t.Errorf("after a restart: changed %v, revision %d not %d, %v", changed, again.Revision(), k.Revision(), err)
	}
	ports, err := o.Ports().All()
	if err != nil || len(ports) != 4 { // known, 5432, and 80 and 443 for the only port
		t.Errorf("ports %v, %v", ports, err)
	}
	if _, err := again.Apply(kernel.State{Table: policy.NewTable(policy.Deny, nil)}); err != nil {
		t.Fatal(err)
	}
	for name, size := range sizes(t, o) {
		if size != 0 {
			t.Errorf("map %s keeps %d entries", name, size)
		}
	}
}

func sizes(t *testing.T, o *bpf.Objects) map[string]int {
	t.Helper()
	w, err1 := o.Workloads().All()
	i, err2 := o.Intentions().All()
	p, err3 := o.Ports().All()
	g, err4 := o.Guards().All()
	r, err5 := o.Remotes().All()
	u, err6 := o.Upstreams().All()
	l, err7 := o.Locals().All()
	if err := errors.Join(err1, err2, err3, err4, err5, err6, err7); err != nil {
		t.Fatal(err)
	}
	return map[string]int{"workloads": len(w), "intentions": len(i), "ports": len(p), "guards": len(g),
		"remotes": len(r), "upstreams": len(u), "locals": len(l)}
}

// TestFullMapRefusesTheNewOne: nothing live is evicted, and nothing opens.
func TestFullMapRefusesTheNewOne(t *testing.T) {
	_, o := load(t, bpf.Limits{Intentions: 8})
	n := newNumbers()
	k := newKernel(t, o, n)
	rules := make([]policy.Intention, 0, 20)
	for i := range 8 {
		rules = append(rules, policy.Intention{Source: identity.Name(fmt.Sprintf("s%d", i)), Destination: "db", Action: policy.Deny})
	}
	if _, err := k.Apply(kernel.State{Table: policy.NewTable(policy.Deny, rules)}); err != nil {
		t.Fatal(err)
	}
	more := append(slices.Clone(rules), policy.Intention{Source: "new", Destination: "db", Action: policy.Allow})
	_, err := k.Apply(kernel.State{Table: policy.NewTable(policy.Deny, more)})
	if !errors.Is(err, bpf.ErrFull) {
		t.Errorf("error %v, want that the map is full", err)
	}
	held, err := o.Intentions().All()
	if err != nil || len(held) != 8 {
		t.Errorf("%d entries, %v: want the 8 that were there", len(held), err)
	}
	code, err := o.Decide(bpf.Pair{Source: n.Number("new"), Destination: n.Number("db")})
	if err != nil || kernel.ReasonOf(code) == policy.ReasonAllowed {
		t.Errorf("what didn't fit was let in: %s, %v", kernel.ReasonOf(code), err)
	}
}

// TestNamesWithoutNumbers stay closed.
func TestNamesWithoutNumbers(t *testing.T) {
	_, o := load(t, bpf.Limits{})
	k := newKernel(t, o, newNumbers())
	_, err := k.Apply(kernel.State{
		Table:     policy.NewTable(policy.Deny, []policy.Intention{{Source: "full", Destination: "db", Action: policy.Allow}}),
		Workloads: kernel.Workloads{Cgroups: map[uint64]identity.Name{5: "full"}},
		Endpoints: []kernel.Endpoint{{Service: "full", Port: 1}},
		Guards:    []kernel.Guard{{Port: 9, Service: "full"}},
	})
	if !errors.Is(err, kernel.ErrNoNumber) {
		t.Errorf("error %v, want that a rule is missing", err)
	}
	got := sizes(t, o)
	if got["intentions"] != 0 || got["workloads"] != 0 || got["ports"] != 0 {
		t.Errorf("entries for a name without a number: %v", got)
	}
	if got["guards"] != 1 { // its port stays guarded: nobody may call nobody
		t.Errorf("the guard of a service without a number is gone")
	}
}

// TestVirtualAddresses: the address is the number, both ways.
func TestVirtualAddresses(t *testing.T) {
	_, o := load(t, bpf.Limits{})
	k := newKernel(t, o, newNumbers())
	for _, n := range []uint32{1, 255, 256, 1<<20 - 1} {
		for _, a := range []netip.Addr{kernel.Virtual4(range4, n), kernel.Virtual6(range6, n)} {
			if got, ok := k.NumberOf(a); !ok || got != n {
				t.Errorf("%s is number %d, %v; want %d", a, got, ok, n)
			}
		}
	}
	if a := kernel.Virtual4(range4, 1<<20); a.IsValid() {
		t.Errorf("number 2^20 has the address %s outside a /12", a)
	}
	for _, a := range []string{"240.64.0.0", "10.0.0.1", "fd7a:ac17::", "::1"} {
		if n, ok := k.NumberOf(netip.MustParseAddr(a)); ok {
			t.Errorf("%s is number %d; want none", a, n)
		}
	}
}
