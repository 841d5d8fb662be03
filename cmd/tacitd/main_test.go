// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tacit/node"
)

func TestDefaults(t *testing.T) {
	c, err := parse()
	if err != nil {
		t.Fatal(err)
	}
	if c.Log == nil || c.Version != version || c.Node != node.HostName() || c.Bootstrap || c.Join != nil {
		t.Errorf("%+v", c)
	}
	for got, want := range map[string]string{
		c.StateDir: "/var/lib/tacit", c.RunDir: "/run/tacit", c.BPFDir: "/sys/fs/bpf/tacit", c.ServicesDir: "/etc/tacit/services.d",
		c.Default: "deny", strings.Join(c.Domains, " "): "mesh", c.Redirect: "auto", c.ResolvConf: "/etc/resolv.conf",
		c.Range4.String(): "240.64.0.0/12", c.Range6.String(): "fd7a:ac17::/32", c.Cgroup: "",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if c.GossipPort != 7946 || c.LanePort != 7947 || c.LeafTTL != time.Hour {
		t.Errorf("ports %d and %d, leaves %s", c.GossipPort, c.LanePort, c.LeafTTL)
	}
	if c.Address != "" {
		if _, err := netip.ParseAddr(c.Address); err != nil {
			t.Error(err)
		}
	}
}

func TestHelpListsEveryFlag(t *testing.T) {
	out := execute(t, nil, "--help")
	for _, flag := range []string{
		"config FILE", "node", "state-dir /var/lib/tacit", "run-dir /run/tacit", "address", "cgroup", "bpffs-dir /sys/fs/bpf/tacit",
		"services-dir /etc/tacit/services.d", "bootstrap", "alone", "join", "token-file", "trust-domain", "default-intention deny", "domain mesh",
		"redirect auto", "gossip-port 7946", "lane-port 7947", "virtual-range4 240.64.0.0/12", "virtual-range6 fd7a:ac17::/32",
		"leaf-ttl 1h", "log-format text", "log-level info",
	} {
		name, value, _ := strings.Cut(flag, " ")
		line := ""
		for l := range strings.Lines(out) {
			if strings.HasPrefix(strings.TrimSpace(l), "--"+name+" ") {
				line = l
			}
		}
		if line == "" || (name != "config" && !strings.Contains(line, value)) {
			t.Errorf("--%s with default %q: %q", name, value, line)
		}
	}
	for _, command := range []string{"cleanup", "doctor"} {
		if !strings.Contains(out, "\n  "+command+" ") {
			t.Errorf("no command %s", command)
		}
	}
}

// execute runs tacitd with run in place of the daemon, and returns the output.
func execute(t *testing.T, run func(context.Context, node.Config) error, args ...string) string {
	t.Helper()
	out, err := try(t.Context(), run, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func try(ctx context.Context, run func(context.Context, node.Config) error, args ...string) (string, error) {
	var out bytes.Buffer
	cmd := rootCommand(run)
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	err := cmd.ExecuteContext(ctx)
	return out.String(), err
}

func TestRunGetsTheConfig(t *testing.T) {
	var got node.Config
	stop := errors.New("stop")
	_, err := try(t.Context(), func(_ context.Context, c node.Config) error { got = c; return stop }, "--node", "host9", "--lane-port=9000")
	if !errors.Is(err, stop) || got.Node != "host9" || got.LanePort != 9000 {
		t.Errorf("%v, %+v", err, got)
	}
}

// TestBadOptionsNeverRun: options that can't be parsed end tacitd before the daemon.
func TestBadOptionsNeverRun(t *testing.T) {
	bad := write(t, "bad.hcl", "nods = 1")
	for want, args := range map[string][]string{
		"nods: no such setting":  {"--config", bad},
		"no-such.hcl":            {"--config", filepath.Join(t.TempDir(), "no-such.hcl")},
		"--virtual-range4: ":     {"--virtual-range4", "240.64.0.0"},
		"--virtual-range4:":      {"--virtual-range4", "240.64.0.0/33"},
		"--virtual-range6: ":     {"--virtual-range6", "none"},
		`--log-level "loud"`:     {"--log-level", "loud"},
		`--log-format "xml"`:     {"--log-format", "xml"},
		"--lane-port":            {"--lane-port", "65536"},
		"--gossip-port":          {"--gossip-port", "x"},
		"--leaf-ttl":             {"--leaf-ttl", "1"},
		"--exclude-port":         {"--exclude-port", "22,0"},
		"--exclude-cidr":         {"--exclude-cidr", "10.0.0.0" + "/8x"},
		"--exclude-uid":          {"--exclude-uid", "-1"},
		"--bootstrap":            {"--bootstrap=maybe"},
		"unknown flag: --nods":   {"--nods"},
		`unknown command "nods"`: {"nods"},
	} {
		_, err := try(t.Context(), func(context.Context, node.Config) error {
			t.Errorf("%v: the daemon ran", args)
			return nil
		}, args...)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v: %v, want %q", args, err, want)
		}
	}
}

// TestBadConfigsEndAtOnce: node.Run refuses options that parse but make no sense,
// and names the setting. The folders are the test's own, so that a daemon which
// starts all the same finds no tree to hook.
func TestBadConfigsEndAtOnce(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := t.TempDir()
	safe := []string{"--address=192.0.2.1", "--cgroup=" + dir, "--state-dir=" + dir, "--run-dir=" + dir, "--bpffs-dir=" + dir, "--services-dir=" + dir}
	for want, args := range map[string][]string{
		`--default-intention: action "maybe"`: {"--default-intention", "maybe"},
		"--default-intention: action":         {"--config", write(t, "a.hcl", `default_intention = "Allow it"`)},
		"--node":                              {"--node", "no_label"},
		`--address "host1"`:                   {"--address", "host1"},
		"--trust-domain":                      {"--trust-domain", "no domain"},
		`--redirect "magic"`:                  {"--redirect", "magic"},
		"--confirm 10ms":                      {"--confirm", "10ms"},
		"--leaf-ttl 1s":                       {"--leaf-ttl", "1s"},
		"--virtual-range4 fd00::/16":          {"--virtual-range4", "fd00::/16"},
		"--virtual-range4 240.0.0.0/25":       {"--virtual-range4", "240.0.0.0/25"},
		"--virtual-range6 10.0.0.0/8":         {"--virtual-range6", "10.0.0.0/8"},
		"--virtual-range6 fd00::/97":          {"--virtual-range6", "fd00::/97"},
		"--lane-port: must not be 0":          {"--lane-port", "0"},
		"--bootstrap creates":                 {"--bootstrap", "--join", "host1"},
		"--exclude-cidr: 240.0.0.0/4 overlaps the virtual addresses 240.64.0.0/12 (--virtual-range4)": {"--exclude-cidr", "240.0.0.0/4"},
		"a.hcl:2: exclude.cidrs: fd7a::/16 overlaps":                                                  {"--config", write(t, "a.hcl", "exclude {\n  cidrs = [\"fd7a::/16\"]\n}")},
		`--exclude-cgroup: cgroup "/other": is not below`:                                             {"--exclude-cgroup", "/other"},
		`--exclude-cgroup: cgroup "../other": is not below`:                                           {"--exclude-cgroup", "../other"},
		`--exclude-cgroup: cgroup "/": is not below`:                                                  {"--exclude-cgroup", "/"},
		`--exclude-cgroup: cgroup ".": is the hooked root`:                                            {"--exclude-cgroup", "."},
		`is tacit's own`: {"--exclude-cgroup", "tacit/services/web"},
	} {
		if _, err := try(ctx, node.Run, append(safe, args...)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", args, err, want)
		}
	}
}

func TestLogger(t *testing.T) {
	for format, start := range map[string]string{"text": "time=", "JSON": `{"time":`} {
		var out bytes.Buffer
		o := newOutput()
		log := o.logger(&out)
		if err := o.set(format, "WARN"); err != nil {
			t.Fatal(err)
		}
		log.Info("hidden")
		log.Warn("shown")
		if got := out.String(); !strings.HasPrefix(got, start) || strings.Contains(got, "hidden") || !strings.Contains(got, "shown") {
			t.Errorf("%s: %q", format, got)
		}
	}
}
