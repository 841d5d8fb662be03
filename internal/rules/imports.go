// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"slices"
	"strings"
)

// room says what a package may import of this module.
type room struct {
	path   string   // the package's folder; "x/..." stands for every package below x
	may    []string // packages by their folders; "x/..." likewise
	whyNot string   // the reason why no other import is allowed
}

// rooms are the packages of the module. A package's own line counts before the
// line of a folder above it.
func rooms() []room {
	return append([]room{
		{"cmd/tacitd", []string{"node", "node/config", "node/lifecycle"},
			"tacitd turns flags and a config file into a Config and hands it on; other work belongs below node"},
		{"cmd/tacit/show", []string{"cmd/tacit/table", "cmd/tacit/text", "node/api"},
			"show has been told everything: it says it in words"},
		{"cmd/tacit/cli", []string{"cmd/tacit/table", "cmd/tacit/text", "node/api"},
			"cli is what commands share: it knows none of them"},
		{"cmd/tacit/audit", []string{"cmd/tacit/cli", "cmd/tacit/table", "cmd/tacit/text", "cmd/tacit/usage", "node/api"},
			"a noun asks the daemon: it decides nothing"},
		{"cmd/tacit/flows", []string{"cmd/tacit/cli", "cmd/tacit/show", "cmd/tacit/table", "cmd/tacit/text", "cmd/tacit/usage", "node/api", "node/api/flow"}, // node/api in tests only
			"a noun asks the daemon: it chooses nothing"},
		{"cmd/tacit/keys", []string{"cmd/tacit/cli", "cmd/tacit/show", "cmd/tacit/text", "cmd/tacit/usage", "node/api"},
			"nouns that belong together ask the daemon's socket, and no other noun"},
		{"cmd/tacit/member", []string{"cmd/tacit/cli", "cmd/tacit/table", "cmd/tacit/text", "cmd/tacit/usage", "node/api"},
			"nouns that belong together ask the daemon's socket, and no other noun"},
		{"cmd/tacit", []string{"cmd/tacit/audit", "cmd/tacit/cli", "cmd/tacit/flows", "cmd/tacit/keys", "cmd/tacit/member", "cmd/tacit/show", "cmd/tacit/table", "cmd/tacit/text", "cmd/tacit/usage", "node/api", "node/entries", "policy/resolver"}, // the last in tests only
			"the CLI talks to the daemon's socket: it links neither BPF nor memberlist and needs no privilege"},
		{"cmd/tacit/table", nil, "a table knows no API: it prints text"},
		{"cmd/tacit/text", nil, "text knows no API: it says values in words"},
		{"cmd/tacit/usage", []string{"node/api"}, "what is wrong with a command line is known without the daemon"},
		{"bpf", []string{"bpf/layout", "bpf/pinfs", "bpf/ring", "policy/shortage"},
			"bpf is a leaf: it knows numbers, not names; only policy/kernel maps one to the other"},
		{"bpf/layout", []string{"bpf/pinfs"}, // in tests only
			"layout carries entries over; what they mean is known where maps are written"},
		{"bpf/pinfs", nil, "pinfs is files: what is pinned in them is for its caller to say"},
		{"bpf/ring", nil, "ring reads records; what they say is known where their types are"},
		{"identity", nil,
			"identity is a leaf: it knows names, not numbers, and can be read and tested alone"},
		{"policy/shortage", nil,
			"shortage knows errors of the kernel, whoever got them: every room may ask it"},
		{"policy", []string{"identity", "policy/shortage"},
			"policy decides by names: it needs no network, disk or kernel"},
		{"policy/resolver", []string{"identity"},
			"a resolver is what operators wrote; the instances that it means are known to the catalog"},
		{"policy/ledger/statement", []string{"identity"},
			"a statement is a leaf: who may make it, and what it means to others, is the ledger's"},
		{"policy/ledger", []string{"identity", "policy", "policy/ledger/statement", "policy/resolver"},
			"merging records needs no network, disk or kernel, so that tests can simulate it"},
		{"policy/kernel", []string{"bpf", "identity", "policy"},
			"policy/kernel writes decisions by name into maps by number and does nothing else"},
		{"redirect", []string{"redirect/listen", "redirect/sockdiag"}, // both in tests only
			"redirect carries out a plan that its caller made; it knows no service"},
		{"redirect/links", nil,
			"links reads this host's interfaces and addresses; what follows from them is for its caller to say"},
		{"redirect/listen", []string{"tproxy/accept"},
			"listen opens sockets; which packets reach them and who may connect is decided elsewhere"},
		{"redirect/netns", nil,
			"netns runs functions elsewhere; what they do is for its caller to say"},
		{"redirect/sockdiag", nil,
			"sockdiag asks the kernel about sockets; what the answer means is for its caller to say"},
		{"tproxy", []string{"identity", "policy", "tproxy/..."},
			"the proxy asks its Router and Identities, which hide where their answers come from"},
		{"tproxy/accept", nil,
			"accept is a leaf: whoever accepts connections may import it"},
		{"tproxy/lane", []string{"identity", "policy", "tproxy/accept", "tproxy/lane/...", "tproxy/loop", "tproxy/record", "tproxy/socket"},
			"lanes are replaced without a change of the proxy: they know no captured connection, and policy only for its reasons"},
		{"tproxy/headroom", nil,
			"headroom knows descriptors and memory: whoever has a connection asks before using it"},
		{"tproxy/lane/credit", nil, "credit counts bytes: it has no stream"},
		{"tproxy/lane/frame", []string{"tproxy/record"}, "frame packs bytes: it has no stream and no connection"},
		{"tproxy/lane/guest", []string{"tproxy/lane/credit", "tproxy/lane/path", "tproxy/lane/trust"}, "guest counts what a peer does; lanes say what follows"},
		{"tproxy/lane/path", []string{"tproxy/socket"}, "path judges what the kernel has seen of a way"},
		{"tproxy/lane/pulse", nil, "pulse counts rounds: clocks and connections are lanes'"},
		{"tproxy/lane/message", []string{"identity", "policy", "tproxy/lane/frame"}, "message reads and writes what a peer says; whether it is true is for its caller to say"},
		{"tproxy/lane/trust", []string{"identity"}, "trust remembers what was proven; proofs are verified and sent by lanes"},
		{"tproxy/loop", nil,
			"loop tells of events; what they lead to is for its callers to say"},
		{"tproxy/record", nil,
			"record seals and opens what it is given; who the peer is, and what a connection carries, is for its caller to say"},
		{"tproxy/socket", nil,
			"socket asks the kernel about TCP connections; what the answer means is for its caller to say"},
		{"internal/endtoend", []string{"identity", "tproxy/record"}, // what a patched peer needs: keys, certificates, proofs, and changes of a lane's key
			"the tests of whole daemons see what an operator or a peer sees"},
		{"internal/...", nil,
			"test helpers start programs and read text; they import no product package"},
	}, nodeRooms()...)
}

// nodeRooms are node and the packages below it. None of them imports node, and
// each reaches a sibling that isn't on its list through an interface of its own.
func nodeRooms() []room {
	return []room{
		{"node", []string{"bpf", "identity", "policy", "policy/...", "redirect", "redirect/...", "tproxy", "node/..."},
			"node builds the parts of the daemon and connects them; only commands import it"},
		{"node/api/flow", []string{"identity", "policy", "node/definition/suggest"},
			"flow is records and queries: whoever has records, or asks for some, is elsewhere"},
		{"node/api", []string{"identity", "policy", "policy/resolver", "node/api/flow"},
			"the CLI links this package: it must stay free of BPF, memberlist and netlink"},
		{"node/audit", []string{"identity", "policy", "policy/ledger", "policy/ledger/statement", "node/api", "node/health"},
			"the audit log writes down what is in force; nothing waits for it or asks its leave"},
		{"node/balance", []string{"identity", "policy/ledger/statement", "policy/resolver", "tproxy", "node/catalog"}, // records in tests only
			"balance knows connections by what the proxy reports; it carries none"},
		{"node/catalog", []string{"identity", "policy", "policy/ledger/statement", "policy/resolver"},
			"the catalog is a pure function of records"},
		{"node/checks", []string{"identity", "policy", "policy/kernel", "policy/shortage", "redirect/netns", "node/definition", "node/secrets", "node/seen", "node/workload"},
			"checks runs health checks; what follows from a result is decided where records are made"},
		{"node/config", []string{"identity", "policy", "node/definition", "node/workload"},
			"config checks what a daemon can be told; every other part reads it, so it imports none of them"},
		{"node/control/resolvers", []string{"identity", "policy", "policy/ledger", "policy/resolver", "node/api", "node/catalog", "node/records"},
			"resolvers says what rules for connections are and would be; who may change them is decided before"},
		{"node/control/reach", []string{"identity", "node/api"},
			"reach counts: what a member has in force is found out where its word is"},
		{"node/control", []string{"bpf", "identity", "policy", "policy/...", "tproxy", "tproxy/lane", "redirect", "redirect/...", "node/..."},
			"control answers the CLI from what the other parts offer; it loads no kernel program and imports no node"},
		{"node/control/keys", []string{"identity", "policy", "policy/ledger", "policy/ledger/statement", "tproxy/lane", "node/api", "node/config", "node/health", "node/membership", "node/records", "node/store"}, // health and store in tests only
			"keys knows records and certificates; no service and no kernel"},
		{"node/datapath", []string{"bpf", "identity", "policy", "policy/kernel", "policy/shortage", "redirect", "redirect/...", "tproxy/accept",
			"node/config", "node/dns", "node/health", "node/workload"},
			"datapath puts a given state on the host and keeps it there; records and the inventory are compiled before it"},
		{"node/definition", []string{"identity", "policy", "node/definition/external", "node/definition/suggest"},
			"definition turns service files into values; the inventory decides what follows from them"},
		{"node/definition/external", []string{"identity"}, "external checks names and addresses; resolving and dialling them is node/outside's"},
		{"node/definition/folder", []string{"node/definition"}, "folder reads files and compares versions; what a file says is the definition's"},
		{"node/definition/suggest", nil, "suggest compares words, whatever they are for"},
		{"node/dns", []string{"identity", "tproxy/accept"},
			"DNS answers from a Zone, whoever filled it"},
		{"node/dns/client", nil, "the client asks for one name; whose it is, and what follows from the answer, is for its caller to say"},
		{"node/enrol", []string{"identity", "policy", "policy/ledger"},
			"enrolment is messages and checks over a connection that its caller made"},
		{"node/entries", []string{"identity", "policy", "policy/resolver", "node/api", "node/definition"},
			"the CLI reads files of intentions and resolvers before it asks the daemon for anything"},
		{"node/gossip", []string{"identity", "redirect/listen", "node/gossip/wire"},
			"gossip carries opaque records; the receiver checks their signatures and what they permit"},
		{"node/gossip/wire", []string{"identity", "tproxy/accept"},
			"the wire proves who has sent what; who is a member is for its caller to say"},
		{"node/handover", []string{"identity", "policy", "redirect/listen", "tproxy", "tproxy/lane", "node/config"},
			"handover carries what a daemon hands over; what it means, and who stops and starts, is for its caller to say"},
		{"node/health", []string{"policy/shortage"},
			"every part reports to health, so it imports none of them"},
		{"node/ingress", []string{"identity", "policy", "redirect/listen", "tproxy", "tproxy/accept", "tproxy/socket", "node/definition", "node/health"},
			"ingress opens ports and knows who comes in there; the proxy carries the connections"},
		{"node/inventory", []string{"identity", "policy", "policy/kernel", "policy/shortage", "redirect/links", "redirect/netns", "redirect/sockdiag",
			"node/config", "node/definition", "node/definition/external", "node/definition/folder", "node/health", "node/store", "node/workload", "node/inventory/sessions"},
			"the inventory says what runs on this host; records, peers and maps are read and written elsewhere"},
		{"node/inventory/sessions", []string{"redirect/sockdiag"},
			"sessions finds operators' connections by processes and sockets; it knows no service"},
		{"node/journal", []string{"policy", "policy/kernel", "tproxy", "node/api"},
			"the journal remembers what others report; it asks the kernel for sums only"},
		{"node/lifecycle", []string{"bpf", "bpf/pinfs", "identity", "redirect", "redirect/...", "node/api", "node/config", "node/datapath", "node/definition", "node/definition/folder", "node/dns",
			"node/handover", "node/membership", "node/secrets", "node/store", "node/workload"},
			"lifecycle works from a Config while no daemon runs, so it can't depend on a running part"},
		{"node/limits", []string{"policy", "node/health", "tproxy/headroom"}, // policy in tests only
			"limits measures this process; who is refused for it is decided where connections are"},
		{"node/membership", []string{"identity", "policy/ledger", "policy/ledger/statement", "policy/shortage", "node/config", "node/enrol", "node/health", "node/records", "node/store"},
			"membership is this node's keys and certificates; it knows neither services on this host nor the kernel"},
		{"node/metrics", []string{"identity", "policy", "policy/kernel", "redirect/listen", "tproxy", "node/api", "node/api/flow", "node/config"},
			"metrics are what the CLI is told, for another reader: no part counts anything for them"},
		{"node/outside", []string{"identity", "policy/ledger/statement", "tproxy/socket", "node/catalog", "node/definition", "node/definition/external", "node/dns/client", "node/health", "node/seen"}, // the socket in tests only
			"outside finds and dials hosts beyond the mesh; who may call them is decided before"},
		{"node/peers", []string{"identity", "policy", "policy/ledger", "policy/ledger/statement", "redirect/links", "redirect/listen", "tproxy", "tproxy/accept", "tproxy/headroom", "tproxy/record", "tproxy/socket",
			"node/catalog", "node/config", "node/enrol", "node/health", "node/store", "node/peers/gate"},
			"peers answers the lane port and proves addresses; it doesn't decide who may call whom"},
		{"node/peers/gate", []string{"identity", "policy"},
			"the gate knows addresses and times: connections are its caller's"},
		{"node/probe", []string{"node/secrets"},
			"the probe is an ordinary program: its caller knows which result is right"},
		{"node/reconcile/share", []string{"identity", "policy/ledger/statement", "policy/resolver"},
			"all nodes divide alike: by records, and by nothing that differs from node to node"},
		{"node/reconcile", []string{"identity", "policy", "policy/kernel", "policy/ledger/statement", "policy/resolver", "redirect/netns", "node/catalog", "node/config", "node/definition", "node/definition/external", "node/health", "node/inventory", "node/reconcile/share", "node/workload"},
			"reconcile computes the kernel's state from views; gathering views and writing maps are behind interfaces"},
		{"node/records", []string{"identity", "policy", "policy/ledger", "policy/ledger/statement", "node/health"},
			"records signs, keeps and merges the shared state; disk and gossip are behind interfaces"},
		{"node/routing", []string{"identity", "policy", "policy/kernel", "policy/ledger/statement", "policy/resolver", "redirect/links", // the ledger in tests only
			"tproxy", "tproxy/socket", "node/balance", "node/catalog", "node/checks", "node/config", "node/definition", "node/definition/external", "node/health", "node/inventory", "node/seen", "node/store", "node/workload"},
			"routing answers one question about one connection from other parts' present values"},
		{"node/secrets", nil,
			"secrets closes files and this process to others; what they hold is known to their owners"},
		{"node/seen", []string{"identity", "redirect/netns", "tproxy/socket", "node/definition"},
			"seen makes the last socket to a program; who may call it is decided before"},
		{"node/selfprobe", []string{"identity", "policy", "policy/kernel", "tproxy/accept", "tproxy/socket", "node/health", "node/probe", "node/workload"},
			"the self-probe uses the mesh as a workload does, so it can't look inside other parts"},
		{"node/signer", []string{"identity", "policy/ledger", "policy/ledger/statement", "node/api", "node/membership", "node/records"},
			"signer makes records; the parts that call it decide which"},
		{"node/store", []string{"identity", "policy", "policy/ledger", "policy/ledger/statement"},
			"the store writes what it is given to disk"},
		{"node/web", []string{"identity", "policy", "node/api"},
			"the web page is a client of the API like any other"},
		{"node/workload", []string{"identity", "redirect/netns"},
			"workload knows cgroups and processes; policy decides who may call whom"},
		{"node/zone", []string{"identity", "policy/ledger/statement", "policy/resolver", "redirect/sockdiag", "node/catalog", "node/dns"},
			"zone says what there is; dns says what an answer looks like"},
	}
}

// thirdParty says which folders may import a module of others, in tests too.
type thirdParty struct {
	path    string
	folders []string
	why     string
}

// thirdParties are the modules in use. Each belongs to one room.
func thirdParties() []thirdParty {
	return []thirdParty{
		{"github.com/cilium/ebpf", []string{"bpf", "internal/testhost"}, "programs and maps have one owner, with a typed file per map"},
		{"github.com/coreos/go-iptables", []string{"redirect"}, "rules are changed in one place, by a plan"},
		{"github.com/vishvananda/netlink", []string{"redirect", "internal/testhost"}, "routes are changed in one place, by a plan"},
		{"github.com/hashicorp/memberlist", []string{"node/gossip"}, "only gossip depends on it, so it can be replaced"},
		{"github.com/miekg/dns", []string{"node/dns"}, "only the DNS server knows the wire format"},
		{"github.com/spiffe/go-spiffe", []string{"identity"}, "every other package uses identity.ID"},
		{"go.etcd.io/bbolt", []string{"node/store"}, "only the store knows the file format"},
		{"github.com/hashicorp/hcl", []string{"node/definition", "cmd/tacitd"}, "HCL is a syntax of files; its types stay where files are read"},
		{"github.com/zclconf/go-cty", []string{"node/definition", "cmd/tacitd"}, "it comes with HCL"},
		{"github.com/fsnotify/fsnotify", []string{"node/definition/folder", "node/dns"}, "a file is watched by the package that reads it"},
		{"github.com/coreos/go-systemd", []string{"node"}, "only the daemon itself knows when it is ready"},
		{"github.com/spf13", []string{"cmd"}, "flags become a Config in the command"},
		{"github.com/rogpeppe/go-internal", []string{"cmd"}, "testscript sessions show how the commands are used"},
		{"github.com/prometheus/client_golang", []string{"node/metrics"}, "metrics are read from other parts, which count without a library"},
		{"google.golang.org/grpc", []string{"node/checks"}, "its health server is what the tests ask; the daemon links none of it"},
		{"golang.org/x", []string{""}, "it is the Go project's own"},
	}
}

// ImportProblems reports every import of f that the tables don't allow.
func ImportProblems(f Go) []string {
	if f.Generated() { // generated code of package bpf imports cilium/ebpf
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
			why = thirdPartyProblem(f.File, path)
		}
		if why != "" {
			problems = append(problems, f.At(node, "%s must not import %s: %s", f.Package(), path, why))
		}
	}
	slices.Sort(problems)
	return problems
}

func ownProblem(f File, path string) string {
	// A test may import the package that it tests; every test may use a test host.
	if path == f.Package() || f.IsTest() && under(path, "internal/testhost") {
		return ""
	}
	r, ok := roomOf(f.Package())
	if !ok {
		return "the importing folder has no line in the tables of internal/rules/imports.go: add one"
	}
	if slices.ContainsFunc(r.may, func(may string) bool { return covers(may, path) }) {
		return ""
	}
	return r.whyNot
}

// roomOf finds a package's own line, else the line of the nearest folder above.
func roomOf(pkg string) (best room, ok bool) {
	for _, r := range rooms() {
		if r.path == pkg {
			return r, true
		}
		if covers(r.path, pkg) && len(r.path) > len(best.path) {
			best, ok = r, true
		}
	}
	return best, ok
}

// covers says whether a pattern of the tables stands for a package.
func covers(pattern, pkg string) bool {
	above, below := strings.CutSuffix(pattern, "/...")
	if below {
		return strings.HasPrefix(pkg, above+"/")
	}
	return pattern == pkg
}

func thirdPartyProblem(f File, path string) string {
	for _, m := range thirdParties() {
		if !under(path, m.path) {
			continue
		}
		for _, r := range m.folders {
			if under(f.Package(), r) {
				return ""
			}
		}
		return fmt.Sprintf("it belongs to %s: %s", strings.Join(m.folders, " and "), m.why)
	}
	return "it is a new dependency: add a line with a reason to thirdParties in internal/rules/imports.go"
}

// under says whether a path is a folder or below it; "" is the root.
func under(path, folder string) bool {
	return folder == "" || path == folder || strings.HasPrefix(path, folder+"/")
}
