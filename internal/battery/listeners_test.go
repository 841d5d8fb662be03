// SPDX-License-Identifier: Apache-2.0

package battery

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"tacit/internal/testhost"
)

// listeners: whoever else binds where a service is reached gets nothing.
func (b *bed) listeners(t *testing.T) {
	places := []struct{ addr, words string }{{"::", ""}, {"::", "steer"}, {"127.0.0.1", ""}, {"::1", ""}, {"0.0.0.0", ""}, {"{real4}", ""}, {"::", "device=lo"}}
	for i, p := range places {
		cgroup := []string{"user", "tacit/services/evil"}[i%2]
		b.holds(t, "listener beside the service's", strings.TrimSpace(p.addr+" "+p.words), func(t *testing.T) { b.impostor(t, cgroup, p.addr, p.words) })
	}
	for _, at := range []string{"{v4}", "::ffff:{v4}", "::", "0.0.0.0", "{host1}"} {
		b.holds(t, "listener on a virtual address or its port", at, func(t *testing.T) { b.virtualListener(t, at) })
	}
	b.holds(t, "listener older than its place in the workload", "moved in", b.movedListener)
	b.holds(t, "listener older than the enrolment of its cgroup", "", b.enrolledListener)
}

// holds runs a test that has a line in the table, unless open() names it: there
// its name is what rows call with.
func (b *bed) holds(t *testing.T, vector, name string, f func(*testing.T)) {
	t.Helper()
	b.table.begin(vector)
	r := row{vector: vector, with: name}
	if isOpen(r, up) {
		b.table.leave(vector, up)
		return
	}
	held := t.Run(strings.ReplaceAll(vector+"/"+name, " ", "_"), f)
	b.table.add(vector, up, held)
	if held && listed(r, up) {
		t.Logf("holds, and is in open(): %s %s", vector, name)
	}
}

// impostor: nobody but db's workload can listen on db's port on db's node,
// beside the server or in its place, not even for a moment.
func (b *bed) impostor(t *testing.T, cgroup, addr, words string) {
	p := b.host2.Start(t, cgroup, testhost.Python(), append([]string{b.script("serve.py"), b.place(addr), fmt.Sprint(servicePort)}, strings.Fields(words)...)...)
	<-p.Ended()
	if !strings.Contains(p.Output(), "Permission denied") {
		t.Errorf("the impostor in %s on %s %s: %s", cgroup, addr, words, p.Output())
	}
	for _, r := range []row{{from: "web", to: "{v4}:{port}"}, {from: "web2", to: "{here4}:{port}"}} {
		if o := b.one(r); o.said != "ok" {
			t.Errorf("%s, after an impostor: %s", o.row.from, o.said)
		}
	}
}

// virtualListener: who binds db's virtual address, or its port on every
// address of the caller's node, gets nothing, and the call arrives where it
// should.
func (b *bed) virtualListener(t *testing.T, at string) {
	p := b.host1.Start(t, "user", testhost.Python(), b.script("serve.py"), b.place(at), fmt.Sprint(servicePort))
	eventually(t, "the impostor listens", "listening", p.Output)
	for _, to := range []string{"{v4}:{port}", "[{v6}]:{port}", "{real4}:{port}"} {
		if o := b.one(row{from: "web", to: to}); o.said != "ok" {
			t.Errorf("web to %s: %s", to, o.said)
		}
		if o := b.one(row{from: "nobody", to: to}); o.said != refused {
			t.Errorf("nobody to %s: %s", to, o.said)
		}
	}
	if strings.Contains(p.Output(), "accepted") {
		t.Errorf("the listener on %s was called: %s", at, p.Output())
	}
	p.Signal(syscall.SIGKILL)
	<-p.Ended()
}

// movedListener: a program that listens already is moved into a workload's
// cgroup. Its socket stays its old cgroup's, so that nobody is led to it.
func (b *bed) movedListener(t *testing.T) {
	const port = "8100"
	b.tacit(b.host2, "run", "moved", "--", "true")
	p := b.host2.Start(t, "user", testhost.Python(), b.script("serve.py"), "::", port)
	eventually(t, "it listens", "listening", p.Output)
	b.sh(b.host2, fmt.Sprintf("echo %d > %s/cgroup.procs", p.PID(), b.host2.CgroupPath("tacit/services/moved")))
	b.tacit(b.host2, "service", "register", "moved", "--port", port)
	b.tacit(b.host1, "intention", "allow", "web", "moved", "--wait")
	v4, _ := b.virtual(b.host1, "moved")
	here4, _ := b.virtual(b.host2, "moved")
	eventually(t, "host2 sees what it is", "foreign", func() string { return b.tacit(b.host2, "service", "show", "moved") })
	for from, to := range map[string]string{"web": v4, "web2": here4} {
		if o := b.one(row{from: from, to: to + ":" + port}); !oneOf(o.said, gone) {
			t.Errorf("%s: %s", from, o.said)
		}
	}
	if strings.Contains(p.Output(), "accepted") {
		t.Errorf("it was called: %s", p.Output())
	}
	b.tacit(b.host2, "service", "deregister", "moved")
	p.Signal(syscall.SIGKILL)
	<-p.Ended()
}

// enrolledListener: a program listens in its own cgroup before that becomes a
// workload's. It was always this program's, and is served.
func (b *bed) enrolledListener(t *testing.T) {
	const port = "8300"
	p := b.host2.Start(t, "early", testhost.Python(), b.script("serve.py"), "::", port)
	eventually(t, "it listens", "listening", p.Output)
	b.tacit(b.host2, "service", "register", "early", "--port", port, "--cgroup", b.host2.CgroupPath("early"))
	b.tacit(b.host1, "intention", "allow", "web", "early", "--wait")
	v4, _ := b.virtual(b.host1, "early")
	eventually(t, "it answers", "ok", func() string { return b.one(row{from: "web", to: v4 + ":" + port}).said })
	for _, from := range []string{"evil", "outside"} {
		if o := b.one(row{from: from, to: "{real4}:" + port}); o.said != refused {
			t.Errorf("%s: %s", from, o.said)
		}
	}
	b.tacit(b.host2, "service", "deregister", "early")
	p.Signal(syscall.SIGKILL)
	<-p.Ended()
}
