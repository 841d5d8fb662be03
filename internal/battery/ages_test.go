// SPDX-License-Identifier: Apache-2.0

package battery

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// ages: what is older than the mesh's knowledge of it, or younger; and what two
// do together.
func (b *bed) ages(t *testing.T) {
	b.olderConnections(t)
	b.holds(t, "a container's first moment", "", b.freshContainer)
	b.holds(t, "an address that is a moment old", "", b.freshAddress)
	b.holds(t, "begun by one here in the name of another host, who goes on", "", b.accomplice)
	b.holds(t, "another's port behind a NAT", "", b.theft)
	b.holds(t, "a name look-up is no denial", "", b.lookUp)
}

// olderConnections: plain ones to a port that then becomes a service's. Those
// that policy wouldn't allow are cut; allowed ones of the same node may live.
func (b *bed) olderConnections(t *testing.T) {
	const port, vector = "8200", "connections older than the enrolment"
	b.serve("late", b.host2, "", "::", 8200)
	dir := t.TempDir()
	var rows []row
	for from, to := range map[string]string{"outside": "{real4}", "nobody": "{real4}", "evil": "[{real6}]", "web": "{second4}", "evil2": "127.0.0.1", "nobody2": "[::1]",
		"stray2": "{real4}", "box2 worse": "{gate box2}", "box2 nobody": "[{real6}]"} {
		path := filepath.Join(dir, strings.ReplaceAll(from, " ", "-"))
		rows = append(rows, row{vector: vector, from: from, to: to + ":" + port, with: "hold=" + path, want: "cut", free: true})
	}
	b.table.begin(vector)
	if isOpen(rows[0], up) {
		b.table.leave(vector, up)
		return
	}
	tried := make(chan []outcome, 1)
	go func() { tried <- b.try(len(rows), rows) }()
	for _, r := range rows {
		held := strings.TrimPrefix(r.with, "hold=") + ".held"
		testhost.Eventually(t, 20*time.Second, r.from+" is connected", func() error { _, err := os.Stat(held); return err })
	}
	b.tacit(b.host2, "service", "register", "late", "--port", port, "--cgroup", b.host2.CgroupPath("late"))
	for _, r := range rows {
		must(t, os.WriteFile(strings.TrimPrefix(r.with, "hold="), nil, 0o644))
	}
	for _, o := range <-tried {
		b.holds(t, vector, o.row.from+" to "+o.row.to, func(t *testing.T) {
			if o.said != o.row.want && !strings.HasSuffix(o.said, "ECONNRESET") && !strings.HasSuffix(o.said, "ECONNABORTED") {
				t.Errorf("%s: %s", b.what(o), o.said)
			}
		})
	}
	b.tacit(b.host2, "service", "deregister", "late")
}

// freshContainer: the first program of a container calls at once.
func (b *bed) freshContainer(t *testing.T) {
	box := b.boxes["box"]
	b.tacit(b.host1, "service", "register", "fresh", "--cgroup", box.CgroupPath("fresh"))
	b.tacit(b.host1, "intention", "allow", "fresh", "db", "--wait")
	out, _ := box.Run(t, "fresh", testhost.Python(), "-B", b.script("vectors.py"), "CANARY.fresh.", b.place("{v4}:{port}"))
	if !strings.Contains(out, "ok") {
		t.Errorf("the first program: %s", out)
	}
}

// freshAddress: a denied caller gives db's node an address and calls it at once.
func (b *bed) freshAddress(t *testing.T) {
	for i := range 20 {
		at := fmt.Sprintf("192.0.2.%d", 10+i)
		o := b.one(row{from: []string{"evil2", "nobody2"}[i%2], to: at + ":{port}", with: "address=" + at + "/32"})
		b.sh(b.host2, "ip addr del "+at+"/32 dev lo")
		if !oneOf(o.said, nowhere) || strings.Contains(b.seen(), o.canary) {
			t.Fatalf("%s to %s: %s", o.row.from, at, o.said)
		}
	}
}

// accomplice: a process on db's node with CAP_NET_RAW begins a connection in the
// name of a host outside, which goes on with it.
func (b *bed) accomplice(t *testing.T) {
	rule := "OUTPUT -p tcp --dport " + fmt.Sprint(servicePort) + " --tcp-flags RST RST -j DROP"
	b.sh(b.outside, "iptables -A "+rule)
	defer b.sh(b.outside, "iptables -D "+rule)
	caught := make(chan outcome, 1)
	go func() { caught <- b.one(row{from: "outside", to: "{real4}:{port}", with: "catch={outside}#23456"}) }()
	for {
		b.one(row{from: "nobody2", to: "{real4}:{port}", with: "inject={outside}#23456"})
		select {
		case o := <-caught:
			if o.said == "ok" || strings.Contains(b.seen(), o.canary) {
				t.Errorf("the other host: %s", o.said)
			}
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// theft: who rules a container's namespace holds the container's allowed program
// back, and lets somebody behind a NAT call from its address and port.
func (b *bed) theft(t *testing.T) {
	const rule = "OUTPUT -p tcp --sport 45555 -j DROP"
	b.sh(b.boxes["box"], "iptables -A "+rule)
	defer b.sh(b.boxes["box"], "iptables -D "+rule)
	for _, o := range b.try(3, []row{
		{from: "box app", to: "{v4}:{port}", with: "source={box}#45555 limit=2"},
		{from: "inner stray", to: "{v4}:{port}", with: "patient source={inner stray}#45555"},
		{from: "inner worse", to: "{v4}:{port}", with: "source={inner}#45555"},
	}) {
		if o.row.from != "box app" && (o.said == "ok" || strings.Contains(b.seen(), o.canary)) {
			t.Errorf("%s: %s", o.row.from, o.said)
		}
	}
}

// lookUp: getaddrinfo connects a datagram socket to each address it got; that
// is refused to nobody, and no denial.
func (b *bed) lookUp(t *testing.T) {
	before := strings.Count(b.tacit(b.host1, "flows"), "udp")
	out, _ := b.host1.Run(t, "tacit/services/web", testhost.Python(), "-c", "import socket; print(socket.getaddrinfo('db', 8000))")
	if !strings.Contains(out, b.place("{v4}")) || !strings.Contains(out, b.place("{v6}")) {
		t.Errorf("getaddrinfo: %s", out)
	}
	if after := strings.Count(b.tacit(b.host1, "flows"), "udp"); after != before {
		t.Errorf("%d denials by looking a name up", after-before)
	}
}
