// SPDX-License-Identifier: Apache-2.0

package endtoend

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"tacit/internal/testhost"
)

var update = flag.Bool("update", false, "write the golden files")

// TestPlanIsAllOfIt: the plan of a new node is the golden file, and printing it
// changes nothing.
func TestPlanIsAllOfIt(t *testing.T) {
	host := planHost(t)
	before := everything(t, host)
	out, exit := host.Tacitd(t, "--plan", "--bootstrap", "--exclude-port", "22", "--exclude-cgroup", "system.slice", "--exclude-cidr", "198.51.100.0/24", "--metrics", "127.0.0.1:9464")
	if exit != 0 {
		t.Fatalf("exit %d\n%s", exit, out)
	}
	if after := everything(t, host); after != before {
		t.Errorf("the plan changed the host\nbefore:\n%s\nafter:\n%s", before, after)
	}
	got := strings.NewReplacer(host.State, "STATE", host.RunDir, "RUN", host.BPF, "BPF", host.Services, "SERVICES",
		host.Cgroup, "CGROUP", host.Addr.String(), "ADDRESS").Replace(out)
	golden := filepath.Join("testdata", "plan.golden")
	if *update {
		testhost.WriteFile(t, golden, got)
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the plan differs from %s (go test ./internal/endtoend -run Plan -update writes it):\n%s", golden, got)
	}
}

// TestPlanKnowsWhatIsThere: beside a daemon, after a crash and after a clean-up,
// the plan adds nothing that exists and removes nothing that doesn't.
func TestPlanKnowsWhatIsThere(t *testing.T) {
	host := planHost(t)
	host.Daemon(t, "--bootstrap")
	before := host.Snapshot(t)
	out, exit := host.Tacitd(t, "--plan")
	if after := host.Snapshot(t); after != before {
		t.Errorf("the plan changed the host\nbefore:\n%s\nafter:\n%s", before, after)
	}
	if exit != 0 || !strings.Contains(out, "A tacitd runs here now") {
		t.Errorf("beside a daemon: exit %d\n%s", exit, out)
	}
	fresh := regexp.MustCompile(`(?m)^  add +(.*)$`)
	for _, m := range fresh.FindAllStringSubmatch(out, -1) {
		if !strings.Contains(m[1], "--on-port FREE-PORT") { // every start has new ports
			t.Errorf("beside a daemon, as missing: %s", m[1])
		}
	}
	if out, exit := host.Tacitd(t, "--plan", "--node", "other"); exit != 1 || !strings.Contains(out, "--node other: the state in") {
		t.Errorf("another node's name: exit %d\n%s", exit, out)
	}
	host.Kill(t)
	crashed, exit := host.Tacitd(t, "--plan")
	if exit != 0 || strings.Contains(crashed, "A tacitd runs") {
		t.Errorf("after a crash: exit %d\n%s", exit, crashed)
	}
	for _, m := range fresh.FindAllStringSubmatch(crashed, -1) {
		if strings.Contains(m[1], "pinned as") || strings.HasPrefix(m[1], "ip ") || strings.HasPrefix(m[1], host.State) {
			t.Errorf("after a crash, as missing: %s", m[1])
		}
	}
	if out, exit := host.Tacitd(t, "cleanup"); exit != 0 {
		t.Fatal(out)
	}
	clean, _ := host.Tacitd(t, "--plan")
	for _, word := range []string{"remove", "update"} {
		if regexp.MustCompile(`(?m)^  ` + word).MatchString(clean) {
			t.Errorf("after a clean-up there is something to %s:\n%s", word, clean)
		}
	}
}

// TestPlanOfABadConfig: what makes a start fail makes the plan fail.
func TestPlanOfABadConfig(t *testing.T) {
	host := planHost(t)
	for want, args := range map[string][]string{
		"this node is in no mesh yet": nil,
		"--join needs --token-file":   {"--join", "192.0.2.1"},
		"overlaps the virtual":        {"--bootstrap", "--exclude-cidr", "0.0.0.0/0"},
		"name servers of the host":    {"--bootstrap", "--resolv-conf", filepath.Join(host.Dir, "none")},
		"not in a cgroup v2 tree":     {"--bootstrap", "--cgroup", host.Dir},
		"services folder":             {"--bootstrap", "--services-dir", filepath.Join(host.Dir, "resolv.conf")},
	} {
		if out, exit := host.Tacitd(t, append([]string{"--plan"}, args...)...); exit != 1 || !strings.Contains(out, want) {
			t.Errorf("%v: exit %d, %s, want %s", args, exit, out, want)
		}
	}
}

// planHost has the same name servers in every run, a service file, and none of
// the folders that a start makes.
func planHost(t *testing.T) *testhost.Host {
	t.Helper()
	host := testhost.NewNet(t).Host(t, "host1")
	host.SetResolvConf(t, "nameserver 192.0.2.53\nnameserver 198.51.100.53\n")
	testhost.WriteFile(t, filepath.Join(host.Services, "db.hcl"), "service {\n  name = \"db\"\n  port = 5432\n}\n")
	if err := os.Remove(host.State); err != nil {
		t.Fatal(err)
	}
	host.Run(t, "init", "true") // makes the cgroup that commands run in
	return host
}

// everything is the snapshot and the files that a snapshot doesn't list.
func everything(t *testing.T, host *testhost.Host) string {
	t.Helper()
	out, _ := host.Run(t, "init", "find", host.Dir, "-not", "-name", "*.log", "-not", "-path", host.BPF+"*", "-printf", `%p %m %s\n`)
	return host.Snapshot(t) + out
}
