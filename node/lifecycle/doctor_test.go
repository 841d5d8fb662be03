// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"tacit/internal/testhost"
	"tacit/node/config"
	"tacit/node/definition"
)

var errTest = errors.New("it fails")

// fitHost answers as a host does on which everything is right.
func fitHost() probes {
	return probes{
		release:     func() (string, error) { return "6.18.3-generic", nil },
		cgroup:      func() (string, error) { return "/cg", nil },
		programs:    func() error { return nil },
		iptables:    func() (string, error) { return "iptables v1.8.9 (nf_tables)\n", nil },
		sysctls:     func() []string { return nil },
		descriptors: func() (uint64, error) { return 524288, nil },
		keys:        func() error { return nil },
		aside:       func() []string { return nil },
		listen:      func(netip.AddrPort) error { return nil },
		exists:      present(),
		definitions: func() []definition.Definition { return nil },
	}
}

// TestFindings is a table of what doctor says to one answer of an otherwise fit
// host.
func TestFindings(t *testing.T) {
	release := func(text string) func(*probes) {
		return func(p *probes) { p.release = func() (string, error) { return text, nil } }
	}
	busy := func(p *probes) { p.listen = func(netip.AddrPort) error { return errTest } }
	const tooOld = "tacit needs Linux 6.7 or newer (cgroup/connect_unix)"
	for _, row := range []struct {
		name   string
		answer func(*probes)
		want   finding
	}{
		{"a kernel that is new enough", release("6.7.0"), finding{"kernel", true, "6.7.0", ""}},
		{"a newer kernel", release("7.0-rc1"), finding{"kernel", true, "7.0-rc1", ""}},
		{"an old kernel", release("6.6.9"), finding{"kernel", false, "6.6.9", tooOld}},
		{"an older kernel", release("5.15.0"), finding{"kernel", false, "5.15.0", tooOld}},
		{"a kernel without a number", release("next"), finding{"kernel", false, "next", tooOld}},
		{"a kernel that doesn't say", func(p *probes) { p.release = func() (string, error) { return "", errTest } }, finding{"kernel", false, "it fails", ""}},
		{"a cgroup tree", func(*probes) {}, finding{"cgroup v2", true, "/cg", ""}},
		{"no cgroup tree", func(p *probes) { p.cgroup = func() (string, error) { return "", errTest } }, finding{"cgroup v2", false, "it fails", ""}},
		{"programs load", func(*probes) {}, finding{"eBPF", true, "hooks load; pins go to /bpf/t", ""}},
		{"programs don't load", func(p *probes) { p.programs = func() error { return errTest } },
			finding{"eBPF", false, "it fails", "run as root on a kernel with CONFIG_CGROUP_BPF and BTF (/sys/kernel/btf/vmlinux)"}},
		{"iptables", func(*probes) {}, finding{"iptables", true, "iptables v1.8.9 (nf_tables)", ""}},
		{"no iptables: fit for all but other namespaces", func(p *probes) { p.iptables = func() (string, error) { return "", errTest } },
			finding{"iptables", true, "not installed: programs in other network namespaces can't be captured", "apt-get install iptables"}},
		{"sysctls", func(*probes) {}, finding{"sysctls", true, "nothing in the way", ""}},
		{"sysctls in the way", func(p *probes) { p.sysctls = func() []string { return []string{"a is 1", "b is 2"} } },
			finding{"sysctls", true, "a is 1; b is 2", "capture from other network namespaces may fail; socket hooks are not affected"}},
		{"keys that others can read", func(p *probes) { p.keys = func() error { return errTest } },
			finding{"state folder", false, "it fails", "tacitd doesn't start until it is changed"}},
		{"damaged files were kept", func(p *probes) { p.aside = func() []string { return []string{"state.db.bad-1"} } },
			finding{"state folder", true, "damaged files were kept: state.db.bad-1", "examine the disk, then remove them"}},
		{"just enough descriptors", func(p *probes) { p.descriptors = func() (uint64, error) { return 4096, nil } },
			finding{"descriptors", true, "4096 at most, one or two for each connection", ""}},
		{"too few descriptors", func(p *probes) { p.descriptors = func() (uint64, error) { return 1024, nil } },
			finding{"descriptors", false, "1024 at most, one or two for each connection", "raise LimitNOFILE of the unit"}},
		{"no answer about descriptors", func(p *probes) { p.descriptors = func() (uint64, error) { return 0, errTest } },
			finding{"descriptors", false, "it fails", ""}},
		{"a free gossip port", func(*probes) {}, finding{"gossip port", true, "7946 is free", ""}},
		{"a free lane port", func(*probes) {}, finding{"lane port", true, "7947 is free", ""}},
		{"a port in use", busy, finding{"lane port", false, "it fails", "stop the program that holds it (ss -lntp), or give tacitd another port"}},
		{"an ingress whose port is in use", func(p *probes) {
			p.listen = func(at netip.AddrPort) error {
				if at.String() == "192.0.2.7:80" {
					return errTest
				}
				return nil
			}
			p.definitions = func() []definition.Definition {
				return []definition.Definition{{Name: "web", Port: 80}, {Name: "ingress/a", Ingress: &definition.Ingress{Address: "192.0.2.7", Port: 80}}}
			}
		}, finding{"ingress/a", false, "it fails", "stop the program that holds it (ss -lntp), or give tacitd another port"}},
		{"a port in use beside a daemon", func(p *probes) { busy(p); p.exists = present("/run/t/tacit.sock") },
			finding{"gossip port", true, "7946 is in use, apparently by the running tacitd", ""}},
	} {
		p := fitHost()
		row.answer(&p)
		found := false
		for _, f := range examine(bareHost().Config, p) {
			if f.Name == row.want.Name {
				found = true
				if f != row.want {
					t.Errorf("%s: %+v, want %+v", row.name, f, row.want)
				}
			}
		}
		if !found {
			t.Errorf("%s: no finding %q", row.name, row.want.Name)
		}
	}
}

// TestPortAddress: the ports are tried at this node's address, and at every
// address where that isn't known yet.
func TestPortAddress(t *testing.T) {
	for address, want := range map[string]string{"192.0.2.1": "192.0.2.1:7947", "fd00::1": "[fd00::1]:7947", "": "0.0.0.0:7947", "host1": "0.0.0.0:7947"} {
		p, got := fitHost(), ""
		p.listen = func(at netip.AddrPort) error { got = at.String(); return nil }
		checkPort(config.Config{Address: address}, p, "lane port", 7947)
		if got != want {
			t.Errorf("--address %q: tried %s, want %s", address, got, want)
		}
	}
}

// TestMetricsPort: the port for metrics is tried where there will be one, at its address.
func TestMetricsPort(t *testing.T) {
	for metrics, want := range map[string]string{"127.0.0.1:9464": "127.0.0.1:9464", "[::1]:9464": "[::1]:9464", "unix": "", "": ""} {
		c, p, got := bareHost().Config, fitHost(), ""
		c.Metrics = metrics
		p.listen = func(at netip.AddrPort) error {
			if at.Port() == 9464 {
				got = at.String()
			}
			return nil
		}
		if examine(c, p); got != want {
			t.Errorf("--metrics %q: tried %q, want %q", metrics, got, want)
		}
	}
}

func TestPrintFindings(t *testing.T) {
	var out strings.Builder
	if err := printFindings(&out, []finding{{Name: "kernel", OK: true, Says: "6.18.3"}, {Name: "lane port", Says: "in use", Hint: "stop it"}}); err != nil {
		t.Fatal(err)
	}
	const want = "kernel     ok       6.18.3\n" +
		"lane port  NOT FIT  in use\n" +
		"                    -> stop it\n"
	if out.String() != want {
		t.Errorf("printed\n%s\nwant\n%s", out.String(), want)
	}
}

// TestDoctorOnAHost examines a real host, where a program holds the gossip
// port: as text and as JSON it is not fit for that reason alone.
func TestDoctorOnAHost(t *testing.T) {
	host := testhost.NewNet(t).Host(t, "host1")
	c := hostConfig(host)
	fit, _, text := doctor(t, host, c)
	if !fit || !strings.Contains(text, "7946 is free") {
		t.Errorf("a host for tests is not fit:\n%s", text)
	}
	ln, err := host.Listen("tcp", net.JoinHostPort(c.Address, "7946"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	before := host.Snapshot(t)
	fit, found, text := doctor(t, host, c)
	if fit || !strings.Contains(text, "NOT FIT") {
		t.Errorf("fit with a gossip port in use:\n%s", text)
	}
	for _, f := range found {
		if f.OK == (f.Name == "gossip port") {
			t.Errorf("%+v", f)
		}
	}
	if after := host.Snapshot(t); after != before {
		t.Errorf("doctor changed the host\nbefore:\n%s\nafter:\n%s", before, after)
	}
}

// doctor runs Doctor on a host both ways.
func doctor(t *testing.T, host *testhost.Host, c config.Config) (fit bool, found []finding, text string) {
	t.Helper()
	var plain, asJSON strings.Builder
	err := host.Do(func() (err error) {
		if fit, err = Doctor(c, false, &plain); err != nil {
			return err
		}
		_, err = Doctor(c, true, &asJSON)
		return err
	})
	if err == nil {
		var answer struct {
			Version  int
			Findings []finding
		}
		err = json.Unmarshal([]byte(asJSON.String()), &answer)
		found = answer.Findings
	}
	if err != nil {
		t.Fatal(err)
	}
	return fit, found, plain.String()
}
