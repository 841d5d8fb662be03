// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
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

// numbers gives numbers in the order of the calls, and none to names that begin
// with "full".
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

func (n *numbers) Assign(names []identity.Name) {
	for _, name := range names {
		n.Number(name)
	}
}

func (n *numbers) Name(number uint32) (identity.Name, bool) {
	name, ok := n.byNum[number]
	return name, ok
}

// load loads the programs on a new host.
func load(t testing.TB, limits bpf.Limits) (*testhost.Host, *bpf.Objects) {
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

func newKernel(t testing.TB, o *bpf.Objects, n *numbers) *kernel.Kernel {
	t.Helper()
	k, err := kernel.New(kernel.Config{Objects: o, Numbers: n, Range4: range4, Range6: range6, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestKernelDecidesAsGo compares the decisions of the kernel and of policy.Table on
// random tables, with wildcards, overlapping rules, both defaults, ingresses, names
// without a rule, and aliases.
func TestKernelDecidesAsGo(t *testing.T) {
	_, o := load(t, bpf.Limits{})
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	n := newNumbers()
	k := newKernel(t, o, n)
	sources := []identity.Name{"a", "b", "c", "d", "e", "ingress/a", "ingress/b"}
	for range 2000 {
		table := randomTable(r, append(sources[:7:7], policy.Any))
		if _, err := k.Apply(kernel.State{Table: table, Aliases: []kernel.Alias{{Name: "v1.a", Service: "a"}, {Name: "v2.a", Service: "a"}}}); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			src, dst := sources[r.IntN(7)], sources[r.IntN(5)]
			want := table.Decide(src, dst)
			called := dst
			if dst == "a" {
				called = []identity.Name{"a", "v1.a", "v2.a"}[r.IntN(3)]
			}
			code, err := o.Decide(bpf.Pair{Source: n.Number(src), Destination: n.Number(called)}, src.IsIngress())
			if err != nil {
				t.Fatal(err)
			}
			if got := kernel.ReasonOf(code); got != want.Reason {
				t.Fatalf("%s -> %s: the kernel says %s, Go says %s, by\n%v", src, dst, got, want.Reason, table.List())
			}
		}
	}
	if code, err := o.Decide(bpf.Pair{Source: 0, Destination: 1}, false); err != nil || kernel.ReasonOf(code) != policy.ReasonIdentity {
		t.Errorf("source 0: %s, %v", kernel.ReasonOf(code), err)
	}
}

func randomTable(r *rand.Rand, names []identity.Name) *policy.Table {
	var rules []policy.Intention
	for range r.IntN(12) {
		rules = append(rules, policy.Intention{Source: names[r.IntN(len(names))], Destination: names[r.IntN(len(names))],
			Action: policy.Action(1 + r.IntN(2))})
	}
	return policy.NewTable(policy.Action(1+r.IntN(2)), rules)
}

// TestReasonsHaveNames: every reason of the kernel has a policy.Reason of its own.
func TestReasonsHaveNames(t *testing.T) {
	seen := map[policy.Reason]bool{}
	for code := range bpf.Reasons {
		name := kernel.ReasonOf(code)
		if name == "" || !slices.Contains(policy.Reasons(), name) || seen[name] {
			t.Errorf("reason %d has the name %q, which is empty, unknown to policy, or not unique", code, name)
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

// TestApplyTwiceIsOnce: the second Apply of one State changes nothing, after a
// restart as well, and the revision counts changes only.
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
		t.Errorf("after a restart: changed %v, revision %d not %d, %v", changed, again.Revision().Number, k.Revision().Number, err)
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

// sizes returns how many entries each map of the registry holds in the kernel.
func sizes(t *testing.T, o *bpf.Objects) map[string]uint64 {
	t.Helper()
	return used(t, newKernel(t, o, newNumbers()))
}

// TestFullMapRefusesTheNewOne: a full map keeps its entries, and what doesn't fit is
// not allowed.
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
		t.Errorf("error %v, want ErrFull", err)
	}
	held, err := o.Intentions().All()
	if err != nil || len(held) != 8 {
		t.Errorf("%d entries, %v: want the 8 that were there", len(held), err)
	}
	code, err := o.Decide(bpf.Pair{Source: n.Number("new"), Destination: n.Number("db")}, false)
	if err != nil || kernel.ReasonOf(code) == policy.ReasonAllowed {
		t.Errorf("an intention that didn't fit is in force: %s, %v", kernel.ReasonOf(code), err)
	}
}

// TestNamesWithoutNumbers: services without a number are refused.
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
		t.Errorf("error %v, want ErrNoNumber", err)
	}
	got := sizes(t, o)
	if got["intentions"] != 0 || got["workloads"] != 0 || got["ports"] != 0 {
		t.Errorf("entries for a name without a number: %v", got)
	}
	if got["guards"] != 1 { // its port is refused to everybody
		t.Errorf("the guard of a service without a number is gone")
	}
}

// TestVirtualAddresses: addresses and numbers convert both ways.
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

// TestDepthIsExplained: the sentence for users has the limit of the programs.
func TestDepthIsExplained(t *testing.T) {
	if want := fmt.Sprintf("more than %d levels", bpf.MaxDepth); !strings.Contains(policy.ReasonDepth.Explain(), want) {
		t.Errorf("%q; want %q in it", policy.ReasonDepth.Explain(), want)
	}
}
