// SPDX-License-Identifier: Apache-2.0

package selfprobe

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"tacit/identity"
	"tacit/node/probe"
	"tacit/policy/kernel"
	"tacit/tproxy/accept"
	"tacit/tproxy/socket"
)

var (
	own4, own6       = netip.MustParseAddr("240.79.255.254"), netip.MustParseAddr("fd7a:ac17::f:fffe")
	nobody4, nobody6 = netip.MustParseAddr("240.79.255.255"), netip.MustParseAddr("fd7a:ac17::f:ffff")
)

// numbers reserves what it is asked for, or nothing.
type numbers struct {
	err   error
	given map[identity.Name]uint32
}

func (n *numbers) Reserve(name identity.Name, number uint32) error {
	if n.err == nil {
		n.given[name] = number
	}
	return n.err
}

func virtual(name identity.Name) (v4, v6 netip.Addr) {
	if name == service {
		return own4, own6
	}
	return nobody4, nobody6
}

func newProbe(t *testing.T, n *numbers) *SelfProbe {
	t.Helper()
	p, err := New(Config{Range4: netip.MustParsePrefix("240.64.0.0/12"), Domains: []string{"mesh"}, Hooks: true, Cgroup: t.TempDir() + "/probe",
		Numbers: n, Virtual: virtual, Resolvers: func() []netip.Addr { return nil },
		Source: func(int) (identity.Name, error) { return service, nil }, Settle: func() {}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestRound: what is tried on which host.
func TestRound(t *testing.T) {
	v4only := addresses{self: [2]netip.Addr{own4}, nobody: [2]netip.Addr{nobody4}}
	both := addresses{self: [2]netip.Addr{own4, own6}, nobody: [2]netip.Addr{nobody4, nobody6}}
	resolved := both
	resolved.resolvers = [2]netip.Addr{netip.MustParseAddr("10.0.0.53"), netip.MustParseAddr("fd00::53")}
	for name, c := range map[string]struct {
		conf Config
		at   addresses
		want string
	}{
		"IPv4 alone":  {Config{Hooks: true}, v4only, "probe connect4, probe sendmsg4, probe capture4"},
		"no hooks":    {Config{}, both, "probe capture4, probe capture6, probe capture mapped"},
		"all of them": {Config{Hooks: true}, resolved, "probe connect4, probe sendmsg4, probe capture4, probe names4, probe connect6, probe sendmsg6, probe capture6, probe names6, probe connect mapped, probe sendmsg mapped, probe capture mapped, probe names mapped"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRound(c.conf, c.at)
			var got []string
			for _, task := range r.tasks {
				got = append(got, task.Name)
				if refused := task.Kind == probe.Connect || task.Kind == probe.Send; refused != (task.To.Addr() == c.at.nobody[0] || task.To.Addr() == c.at.nobody[1]) {
					t.Errorf("%s: goes to %s", task.Name, task.To)
				}
				if task.Kind == probe.Names && (task.Want == "" || !strings.HasPrefix(task.Ask, r.label+".")) {
					t.Errorf("%s asks %q and wants %q", task.Name, task.Ask, task.Want)
				}
			}
			if strings.Join(got, ", ") != c.want {
				t.Errorf("tasks %s\nwant  %s", strings.Join(got, ", "), c.want)
			}
			if other := newRound(c.conf, c.at); other.token == r.token || other.label == r.label {
				t.Error("two rounds are alike")
			}
		})
	}
}

func TestNames(t *testing.T) {
	r := round{label: "probe-1"}
	if a, b := r.name([]string{"mesh", "corp"}), r.name(nil); a != "probe-1.mesh." || b != "probe-1.virtual.consul." {
		t.Errorf("%s and %s", a, b)
	}
	first := firstOf([]netip.Addr{netip.MustParseAddr("fe80::1%eth0"), netip.MustParseAddr("::ffff:10.0.0.1"), netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("fd00::1")})
	if first[0].String() != "10.0.0.1" || first[1].String() != "fd00::1" {
		t.Errorf("first resolvers %v", first)
	}
}

// TestNew: the two highest addresses are the probe's; a range without room
// stops only the probe.
func TestNew(t *testing.T) {
	n := &numbers{given: map[identity.Name]uint32{}}
	p := newProbe(t, n)
	if n.given[nobody] != 1<<20-1 || n.given[service] != 1<<20-2 {
		t.Errorf("reserved %v", n.given)
	}
	s := kernel.State{Workloads: kernel.Workloads{Cgroups: map[uint64]identity.Name{}}}
	p.Enrol(&s)
	if len(s.Workloads.Cgroups) != 1 || len(s.Endpoints) != 1 || len(s.Own) != 1 {
		t.Errorf("enrolled %+v", s)
	}
	full := newProbe(t, &numbers{err: errors.New("taken")})
	var none kernel.State
	full.Enrol(&none)
	if len(none.Endpoints) != 0 {
		t.Error("a probe without addresses is enrolled")
	}
	if _, err := full.ask(t.Context()); err == nil || !strings.Contains(err.Error(), "is used up") {
		t.Errorf("asked without addresses: %v", err)
	}
}

// TestSettle: a cgroup that was made anew is enrolled before anything is tried.
func TestSettle(t *testing.T) {
	p := newProbe(t, &numbers{given: map[identity.Name]uint32{}})
	settled := 0
	p.conf.Settle = func() {
		settled++
		p.Enrol(&kernel.State{Workloads: kernel.Workloads{Cgroups: map[uint64]identity.Name{}}})
	}
	for step, c := range []struct {
		remove bool
		want   int
	}{{false, 1}, {false, 1}, {true, 2}, {false, 2}} {
		if c.remove {
			if err := os.Rename(p.conf.Cgroup, p.conf.Cgroup+"-removed"); err != nil { // so that its inode isn't reused
				t.Fatal(err)
			}
		}
		if err := p.settle(); err != nil || settled != c.want {
			t.Errorf("step %d: enrolled %d times, want %d; %v", step, settled, c.want, err)
		}
	}
}

// TestLookup: only the name of the present round has an answer.
func TestLookup(t *testing.T) {
	p := newProbe(t, &numbers{given: map[identity.Name]uint32{}})
	if _, _, ok := p.Lookup(""); ok {
		t.Error("before the first round, the empty name has an answer")
	}
	p.round.label = "probe-1"
	if v4, v6, ok := p.Lookup("probe-1"); !ok || v4 != own4 || v6 != own6 {
		t.Errorf("%s %s %v", v4, v6, ok)
	}
	if _, _, ok := p.Lookup("db"); ok {
		t.Error("a service's name is taken for the probe's")
	}
}

// TestListener: the probe's connections are answered with the round's token,
// all others pass.
func TestListener(t *testing.T) {
	ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	all, err := accept.NewTCP(ln)
	if err != nil {
		t.Fatal(err)
	}
	defer all.Close()
	p := newProbe(t, &numbers{given: map[identity.Name]uint32{}})
	mine := true
	p.conf.Virtual = func(identity.Name) (v4, v6 netip.Addr) { return netip.MustParseAddr("127.0.0.1"), netip.Addr{} }
	p.conf.Source = func(int) (identity.Name, error) {
		if mine {
			mine = false
			return service, nil
		}
		return "web", nil
	}
	p.round.token = "abc"
	passed := make(chan int, 1)
	go func() {
		for l := p.Listener(all); l.AcceptAll(func(fd int) { passed <- fd }) == nil; {
		}
	}()
	probing, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer probing.Close()
	if got, err := io.ReadAll(probing); err != nil || string(got) != "abc" {
		t.Errorf("the probe reads %q, %v", got, err)
	}
	other, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	fd := <-passed
	defer unix.Close(fd)
	if from, err := socket.Remote(fd); err != nil || from.String() != other.LocalAddr().String() {
		t.Errorf("passed on %s, %v, want %s", from, err, other.LocalAddr())
	}
}
