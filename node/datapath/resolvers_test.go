// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"

	"tacit/bpf"
	"tacit/internal/testhost"
	"tacit/redirect/links"
)

// newBareResolvers are open, with real listeners and fake programs.
func newBareResolvers(t *testing.T) (*fixture, *resolvers) {
	t.Helper()
	f := bare(t)
	r := f.resolvers
	testhost.Must(t, r.open(t.Context(), nil))
	t.Cleanup(r.close)
	return f, r
}

// captured names the resolvers that programs were told of. Each has its
// listeners, of UDP and TCP.
func captured(t *testing.T, list []bpf.Resolver) string {
	t.Helper()
	var out []string
	for _, one := range list {
		for i, p := range []uint16{one.Port4, one.Port6} {
			at := netip.AddrPortFrom(links.Loopbacks()[i], p).String()
			conn, err := net.Dial("tcp", at)
			testhost.Must(t, err)
			_ = conn.Close()
			if udp, err := net.ListenPacket("udp", at); err == nil {
				_ = udp.Close()
				t.Errorf("%s: nobody has %s for UDP", one.Addr, at)
			}
		}
		out = append(out, one.Addr.String())
	}
	return strings.Join(out, " ")
}

// TestReload follows one resolv.conf through its changes, with 10.0.0.0/8
// excluded. What stays keeps its listeners.
func TestReload(t *testing.T) {
	f, r := newBareResolvers(t)
	f.settings.Exclude.CIDRs = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	var before map[netip.Addr]bpf.Resolver
	for _, step := range []struct{ name, text, captured, search, kept string }{
		{"two", "nameserver 192.0.2.1\nnameserver 2001:db8::1\nsearch a.test b.test\n", "192.0.2.1 2001:db8::1", "a.test b.test", ""},
		{"again", "nameserver 192.0.2.1\nnameserver 2001:db8::1\nsearch a.test b.test\n", "192.0.2.1 2001:db8::1", "a.test b.test", "192.0.2.1 2001:db8::1"},
		{"an excluded one", "nameserver 10.0.0.53\nnameserver 192.0.2.1\n", "192.0.2.1", "", "192.0.2.1"},
		{"only excluded ones", "nameserver 10.0.0.53\n", "", "", ""},
		{"none named", "# nothing\n", "127.0.0.1", "", ""},
		{"another", "nameserver 192.0.2.2\n", "192.0.2.2", "", ""},
	} {
		testhost.WriteFile(t, f.settings.ResolvConf, step.text)
		testhost.Must(t, r.reload())
		told := f.hooks.captures()
		differs(t, step.name+": captured", captured(t, told), step.captured)
		differs(t, step.name+": suffixes", strings.Join(r.search(), " "), step.search)
		var kept []string
		now := map[netip.Addr]bpf.Resolver{}
		for i, one := range told {
			if r.addrs()[i] != one.Addr {
				t.Errorf("%s: programs are told of %v, status of %v", step.name, told, r.addrs())
			}
			if now[one.Addr] = one; before[one.Addr] == one {
				kept = append(kept, one.Addr.String())
			}
		}
		differs(t, step.name+": kept", strings.Join(kept, " "), step.kept)
		for addr, one := range before {
			if now[addr] == one {
				continue
			}
			testhost.Eventually(t, waitFor, "the listeners for "+addr.String()+" are closed", func() error {
				conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", one.Port4))
				if err == nil {
					_ = conn.Close()
					return fmt.Errorf("port %d listens", one.Port4)
				}
				return nil
			})
		}
		before = now
	}
}

// TestReloadFails: what was captured stays so.
func TestReloadFails(t *testing.T) {
	f, r := newBareResolvers(t)
	told := f.hooks.captures()
	testhost.Must(t, os.Remove(f.settings.ResolvConf))
	if err := r.reload(); err == nil || !strings.HasPrefix(err.Error(), "name servers of the host: ") {
		t.Errorf("without a resolv.conf: %v", err)
	}
	if now := f.hooks.captures(); len(now) != 1 || now[0] != told[0] || captured(t, now) != "10.99.0.53" {
		t.Errorf("programs are told of %+v, before of %+v", now, told)
	}
}

// TestResolversRun: a change of resolv.conf reaches programs, rules and names;
// while the file is missing, that is a problem.
func TestResolversRun(t *testing.T) {
	f, r := newBareResolvers(t)
	rules := make(chan struct{}, 64)
	r.changed = func() error { rules <- struct{}{}; return nil }
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.run(ctx) }()
	step := func(what, problem string) {
		t.Helper()
		receive(t, rules)
		if sweep := receive(t, f.changed); sweep {
			t.Errorf("%s: connections are judged again for names", what)
		}
		if got := wrong(f.board); !strings.HasPrefix(got, problem) || problem == "" && got != "" {
			t.Errorf("%s: problems %q, want %q", what, got, problem)
		}
	}
	step("at the start", "")
	testhost.WriteFile(t, f.settings.ResolvConf+".new", "nameserver 192.0.2.7\n")
	testhost.Must(t, os.Rename(f.settings.ResolvConf+".new", f.settings.ResolvConf))
	step("another resolver", "")
	differs(t, "captured", captured(t, f.hooks.captures()), "192.0.2.7")
	testhost.Must(t, os.Remove(f.settings.ResolvConf))
	step("no file", "resolv.conf: name servers of the host: ")
	testhost.WriteFile(t, f.settings.ResolvConf, "nameserver 192.0.2.8\n")
	testhost.Eventually(t, waitFor, "the file is back", func() error {
		if got := captured(t, f.hooks.captures()); got != "192.0.2.8" || wrong(f.board) != "" {
			return fmt.Errorf("captured %s; %s", got, wrong(f.board))
		}
		return nil
	})
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("run ended with %v", err)
	}
}

// TestResolversClose leaves nothing open, whether or not anybody ran them.
func TestResolversClose(t *testing.T) {
	f := bare(t)
	t.Cleanup(func() { runtime.KeepAlive(f) }) // the garbage collector would close what is open
	testhost.VerifyNone(t)
	testhost.Must(t, f.resolvers.open(t.Context(), nil))
	f.resolvers.close()
}
