// SPDX-License-Identifier: Apache-2.0

package battery

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"tacit/internal/testhost"
)

// ports: what the daemon listens on is no way to db, and who comes is sent
// away upon his first bytes (100 ms is meant; a loaded machine gets a second).
func (b *bed) ports(t *testing.T) {
	out, _ := b.host1.Run(t, "user", "ss", "-Hltnp")
	names, _ := b.host1.Run(t, "user", "ss", "-Hlunp")
	var places []string
	for _, m := range regexp.MustCompile(`LISTEN\s+\d+\s+\d+\s+(\S+)\s.*"tacitd"`).FindAllStringSubmatch(out, -1) {
		if gossip := strings.HasSuffix(m[1], ":7946"); gossip || !strings.Contains(names, " "+m[1]+" ") { // DNS waits for the rest of a query
			places = append(places, m[1])
		}
	}
	if len(places) < 4 { // two for captured connections, lanes, gossip
		t.Fatalf("the daemon listens on %v only: %s", places, out)
	}
	slices.Sort(places)
	for _, to := range places {
		callers := []string{"web", "evil", "nobody"}
		if !strings.Contains(to, "127.") && !strings.Contains(to, "::1]") {
			callers = append(callers, "outside", "web2", "box nobody")
		}
		for _, from := range callers {
			t.Run(from+" to "+to[:strings.LastIndex(to, ":")], func(t *testing.T) {
				said := b.attempt(t, from, "no canary: it goes in clear", to, "")
				if !oneOf(said, "closed|recv: ECONNRESET|"+refused) {
					t.Errorf("%s to %s: %s", from, to, said)
				}
			})
		}
	}
}

// impostor: nobody but db's workload can bind db's port on db's node, beside
// the server or in its place; the node says why.
func (b *bed) impostor(t *testing.T) {
	for _, cgroup := range []string{"user", "tacit/services/evil"} {
		for _, at := range []string{"::", "0.0.0.0", "127.0.0.1", b.host2.Addr.String(), b.host2.Addr6.String()} {
			p := b.host2.Start(t, cgroup, testhost.Python(), b.script("serve.py"), at, fmt.Sprint(servicePort))
			<-p.Ended()
			if !strings.Contains(p.Output(), "Permission denied") {
				t.Errorf("%s at %s: %s", cgroup, at, p.Output())
			}
		}
	}
	b.try(t, row{from: "web", to: "{v4}:{port}", want: "ok"})
	eventually(t, "host2 says why", "listener", func() string { return b.tacit(b.host2, "flows") })
}

// virtualListener: who binds db's virtual address, or its port on every
// address of the caller's node, gets nothing, and the call arrives where it
// should.
func (b *bed) virtualListener(t *testing.T) {
	for _, at := range []string{"{v4}", "::ffff:{v4}", "::", "0.0.0.0"} {
		p := b.host1.Start(t, "user", testhost.Python(), b.script("serve.py"), b.place(at), fmt.Sprint(servicePort))
		eventually(t, "the impostor listens", "listening", p.Output)
		for _, to := range []string{"{v4}:{port}", "[{v6}]:{port}", "{real4}:{port}"} {
			b.try(t, row{from: "web", to: to, want: "ok"})
			b.try(t, row{from: "nobody", to: to, want: refused})
		}
		if strings.Contains(p.Output(), "accepted") {
			t.Errorf("the listener on %s was called: %s", at, p.Output())
		}
		p.Signal(syscall.SIGKILL)
		<-p.Ended()
	}
}
