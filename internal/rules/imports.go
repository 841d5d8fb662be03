// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"slices"
	"strings"
)

// room says what the packages at and below a folder may import of this module.
type room struct {
	path   string
	may    []string // packages, exactly; "x/..." is x and all below
	whyNot string   // for every other edge
}

// rooms are the rooms; the longest path that fits a package counts.
func rooms() []room {
	return []room{
		{"cmd/tacitd", []string{"node"},
			"tacitd turns flags and a file into a node.Config and runs it; what it would do itself belongs in node"},
		{"cmd/tacit", []string{"node/api"},
			"the CLI talks to the daemon's socket: it links neither BPF nor memberlist, and needs no privilege"},
		{"bpf", nil,
			"bpf is a leaf: it knows numbers, not names; policy/kernel is the only bridge"},
		{"identity", nil,
			"identity is a leaf: it knows names, not numbers, and can be read and tested alone"},
		{"policy", []string{"identity"},
			"policy decides over names: networks, disks and the kernel are for others"},
		{"policy/ledger", []string{"identity", "policy"},
			"the merge of records knows of no network, disk or kernel, so that it can be simulated"},
		{"policy/kernel", []string{"bpf", "identity", "policy"},
			"policy/kernel is the bridge of names and numbers and nothing else"},
		{"redirect", []string{"bpf", "redirect/sockdiag"},
			"redirect changes the host by a plan that others decide; it knows no service"},
		{"redirect/sockdiag", nil,
			"sockdiag asks the kernel about sockets; what an answer means is its callers' business"},
		{"tproxy", []string{"identity", "policy"},
			"the proxy asks its Router and Identities; it must not know where the answers come from"},
		{"node", []string{"bpf", "identity", "policy/...", "redirect/...", "tproxy", "node/..."},
			"node assembles the rooms; only commands are above it"},
		{"node/api", []string{"identity", "policy"},
			"the CLI links this package: it must stay free of BPF, memberlist and netlink"},
		{"node/config", []string{"identity", "policy", "node/definition", "node/workload"},
			"config is what a daemon can be told: it starts, opens and changes nothing"},
		{"node/datapath", []string{"bpf", "identity", "policy", "policy/kernel", "redirect", "redirect/sockdiag", "tproxy", "node/config", "node/dns", "node/health", "node/workload"},
			"datapath is told what the kernel shall hold; records and services are others'"},
		{"node/health", nil,
			"every part reports to health; it must know none of them"},
		{"node/records", []string{"identity", "policy/ledger", "node/health"},
			"records keeps and spreads what is signed; who signs and who acts on it are others"},
		{"node/catalog", []string{"identity", "policy", "policy/ledger"},
			"the catalog is computed from records; it does nothing by itself"},
		{"node/definition", []string{"identity", "policy"},
			"service files are text that becomes values; who acts on them is node's business"},
		{"node/dns", []string{"identity"},
			"DNS answers from a Zone; it must not know who filled it"},
		{"node/enrol", []string{"identity", "policy", "policy/ledger"},
			"enrolment is messages and checks over a connection that others made"},
		{"node/gossip", []string{"identity"},
			"gossip carries opaque records: what they permit is decided by signatures, elsewhere"},
		{"node/probe", nil,
			"the probe is a program like any other: what must come of a task is its caller's"},
		{"node/store", []string{"identity", "policy", "policy/ledger"},
			"the store keeps what it is given on disk"},
		{"node/web", []string{"identity", "policy", "node/api"},
			"the web page is a client of the API like any other"},
		{"node/workload", []string{"identity"},
			"workload knows cgroups and processes; who may call whom is policy's"},
		{"internal", nil,
			"helpers and guards of tests know no room: they start programs and read text"},
	}
}

// foreign says which rooms may import a module, tests included.
type foreign struct {
	path  string
	rooms []string
	why   string
}

// foreigners are the modules in use: one foreign dependency, one room.
func foreigners() []foreign {
	return []foreign{
		{"github.com/cilium/ebpf", []string{"bpf", "internal/testhost"}, "programs and maps have one owner, with a typed file per map"},
		{"github.com/coreos/go-iptables", []string{"redirect"}, "rules are changed in one place, by a plan"},
		{"github.com/vishvananda/netlink", []string{"redirect", "internal/testhost"}, "routes are changed in one place, by a plan"},
		{"github.com/hashicorp/memberlist", []string{"node/gossip"}, "it can be replaced, and its key holders are never trusted"},
		{"github.com/miekg/dns", []string{"node/dns"}, "only the DNS server knows the wire format"},
		{"github.com/spiffe/go-spiffe", []string{"identity"}, "everybody else knows identity.ID"},
		{"go.etcd.io/bbolt", []string{"node/store"}, "the file format is the store's secret"},
		{"github.com/hashicorp/hcl", []string{"node/definition", "cmd/tacitd"}, "HCL is a syntax of files, no type of ours"},
		{"github.com/zclconf/go-cty", []string{"node/definition", "cmd/tacitd"}, "it comes with HCL"},
		{"github.com/fsnotify/fsnotify", []string{"node/definition", "node/dns", "node/workload"}, "who owns a file watches it"},
		{"github.com/coreos/go-systemd", []string{"node"}, "readiness is told by who knows it"},
		{"github.com/spf13", []string{"cmd"}, "flags end where node.Config begins"},
		{"github.com/rogpeppe/go-internal", []string{"cmd"}, "testscript sessions are the CLI's manual"},
		{"github.com/prometheus/client_golang", []string{"node"}, "metrics are told by who serves them"},
		{"golang.org/x", []string{""}, "the Go project's own"},
	}
}

// ImportProblems names every import of f that no table permits.
func ImportProblems(f Go) []string {
	if f.Generated() { // by cilium/ebpf, for bpf
		return nil
	}
	var problems []string
	for path, node := range f.Imports() {
		first, _, _ := strings.Cut(path, "/")
		var why string
		switch {
		case first == "tacit":
			why = ownProblem(f.File, strings.TrimPrefix(path, "tacit/"))
		case strings.Contains(first, "."):
			why = foreignProblem(f.File, path)
		}
		if why != "" {
			problems = append(problems, f.At(node, "%s must not import %s: %s", f.Package(), path, why))
		}
	}
	slices.Sort(problems)
	return problems
}

func ownProblem(f File, path string) string {
	if path == f.Package() || f.IsTest() && path == "internal/testhost" { // a test beside its package; any test on a host
		return ""
	}
	best := room{whyNot: "the folder is no room: give it a line in the table of internal/rules"}
	for _, r := range rooms() {
		if under(f.Package(), r.path) && len(r.path) >= len(best.path) {
			best = r
		}
	}
	for _, may := range best.may {
		if may == path || strings.HasSuffix(may, "/...") && under(path, strings.TrimSuffix(may, "/...")) {
			return ""
		}
	}
	return best.whyNot
}

func foreignProblem(f File, path string) string {
	for _, m := range foreigners() {
		if !under(path, m.path) {
			continue
		}
		for _, r := range m.rooms {
			if under(f.Package(), r) {
				return ""
			}
		}
		return fmt.Sprintf("it belongs to %s: %s", strings.Join(m.rooms, " and "), m.why)
	}
	return "nobody uses it yet: give it a line with a reason in the table of internal/rules"
}

// under says whether a path is at or below a folder; "" is the whole tree.
func under(path, folder string) bool {
	return folder == "" || path == folder || strings.HasPrefix(path, folder+"/")
}
