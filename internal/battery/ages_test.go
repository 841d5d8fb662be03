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

// ages tries what is older or newer than tacit's knowledge of it, and attempts that
// need two programs.
func (f *fixture) ages(t *testing.T) {
	f.olderConnections(t)
	f.holds(t, "first connect() of a new container", "", f.newContainer)
	f.holds(t, "address added just before connect()", "", f.newAddress)
	f.holds(t, "SYN spoofed on the service's node, continued by the spoofed host", "", f.spoofedStart)
	f.holds(t, "source address and port of an allowed container, taken behind its NAT", "", f.takenPort)
	f.holds(t, "getaddrinfo() isn't counted as a denial", "", f.nameLookUp)
}

// olderConnections: plain connections to a port are cut when the port's service is
// registered.
func (f *fixture) olderConnections(t *testing.T) {
	const port, vector = "8200", "connections older than the registration"
	if !chosen(vector) {
		return
	}
	f.serve("late", f.host2, "", 8200)
	dir := t.TempDir()
	var rows []row
	for from, to := range map[string]string{"outside": "{real4}", "nobody": "{real4}", "evil": "[{real6}]", "web": "{second4}", "evil2": "127.0.0.1", "nobody2": "[::1]",
		"stray2": "{real4}", "box2 worse": "{gate box2}", "box2 nobody": "[{real6}]"} {
		path := filepath.Join(dir, strings.ReplaceAll(from, " ", "-"))
		rows = append(rows, row{vector: vector, from: from, to: to + ":" + port, with: "hold=" + path, want: "cut", free: true})
	}
	f.table.begin(vector)
	if isOpen(rows[0], up) {
		f.table.leave(vector, up)
		return
	}
	tried := make(chan []outcome, 1)
	go func() { tried <- f.try(len(rows), rows) }()
	for _, r := range rows {
		held := strings.TrimPrefix(r.with, "hold=") + ".held"
		testhost.Eventually(t, 20*time.Second, r.from+" is connected", func() error { _, err := os.Stat(held); return err })
	}
	f.host2.Tacit(t, "service", "register", "late", "--port", port, "--cgroup", f.host2.CgroupPath("late"))
	for _, r := range rows {
		testhost.Must(t, os.WriteFile(strings.TrimPrefix(r.with, "hold="), nil, 0o644))
	}
	for _, o := range <-tried {
		f.holds(t, vector, o.row.from+" to "+o.row.to, func(t *testing.T) {
			if o.said != o.row.want && !strings.HasSuffix(o.said, "ECONNRESET") && !strings.HasSuffix(o.said, "ECONNABORTED") {
				t.Errorf("%s: %s", f.describe(o), o.said)
			}
		})
	}
	f.host2.Tacit(t, "service", "deregister", "late")
}

// newContainer: the first program of a container's cgroup connects at once.
func (f *fixture) newContainer(t *testing.T) {
	box := f.boxes["box"]
	f.host1.Tacit(t, "service", "register", "fresh", "--cgroup", box.CgroupPath("fresh"))
	f.host1.Tacit(t, "intention", "allow", "fresh", "db", "--wait")
	out, _ := box.Run(t, "fresh", testhost.Python(), "-B", f.script("vectors.py"), "CANARY.fresh.", f.place("{v4}:{port}"))
	if !strings.Contains(out, "ok") {
		t.Errorf("the first program: %s", out)
	}
}

// newAddress: a denied caller adds an address to db's node and calls it at once.
func (f *fixture) newAddress(t *testing.T) {
	for i := range 20 {
		at := fmt.Sprintf("192.0.2.%d", 10+i)
		o := f.one(row{from: []string{"evil2", "nobody2"}[i%2], to: at + ":{port}", with: "address=" + at + "/32"})
		f.host2.Sh(t, "ip addr del "+at+"/32 dev lo")
		if !oneOf(o.said, unreachable) || strings.Contains(f.seen(), o.canary) {
			t.Fatalf("%s to %s: %s", o.row.from, at, o.said)
		}
	}
}

// spoofedStart: a process on db's node with CAP_NET_RAW sends a SYN with the address
// of a host outside of the mesh, which continues the connection.
func (f *fixture) spoofedStart(t *testing.T) {
	rule := "OUTPUT -p tcp --dport " + fmt.Sprint(servicePort) + " --tcp-flags RST RST -j DROP"
	f.outside.Sh(t, "iptables -A "+rule)
	defer f.outside.Sh(t, "iptables -D "+rule)
	caught := make(chan outcome, 1)
	go func() { caught <- f.one(row{from: "outside", to: "{real4}:{port}", with: "catch={outside}#23456"}) }()
	for {
		f.one(row{from: "nobody2", to: "{real4}:{port}", with: "inject={outside}#23456"})
		select {
		case o := <-caught:
			if o.said == "ok" || strings.Contains(f.seen(), o.canary) {
				t.Errorf("the spoofed host: %s", o.said)
			}
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// takenPort: root in a container drops the packets of an allowed program there, and
// two programs behind the container's NAT call from the same address and port.
func (f *fixture) takenPort(t *testing.T) {
	const rule = "OUTPUT -p tcp --sport 45555 -j DROP"
	f.boxes["box"].Sh(t, "iptables -A "+rule)
	defer f.boxes["box"].Sh(t, "iptables -D "+rule)
	for _, o := range f.try(3, []row{
		{from: "box app", to: "{v4}:{port}", with: "source={box}#45555 limit=2"},
		{from: "inner stray", to: "{v4}:{port}", with: "patient source={inner stray}#45555"},
		{from: "inner worse", to: "{v4}:{port}", with: "source={inner}#45555"},
	}) {
		if o.row.from != "box app" && (o.said == "ok" || strings.Contains(f.seen(), o.canary)) {
			t.Errorf("%s: %s", o.row.from, o.said)
		}
	}
}

// nameLookUp: getaddrinfo connects a UDP socket to each address that it got, to sort
// them. That isn't refused to anybody and not counted as a denial.
func (f *fixture) nameLookUp(t *testing.T) {
	before := strings.Count(f.host1.Tacit(t, "flows"), "udp")
	out, _ := f.host1.Run(t, "tacit/services/web", testhost.Python(), "-c", "import socket; print(socket.getaddrinfo('db', 8000))")
	if !strings.Contains(out, f.place("{v4}")) || !strings.Contains(out, f.place("{v6}")) {
		t.Errorf("getaddrinfo: %s", out)
	}
	if after := strings.Count(f.host1.Tacit(t, "flows"), "udp"); after != before {
		t.Errorf("%d denials by a name look-up", after-before)
	}
}
