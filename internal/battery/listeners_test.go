// SPDX-License-Identifier: Apache-2.0

package battery

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"tacit/internal/testhost"
)

// listeners: another program that listens where a service is reached gets no connection.
func (f *fixture) listeners(t *testing.T) {
	places := []struct{ addr, words string }{{"::", ""}, {"::", "steer"}, {"127.0.0.1", ""}, {"::1", ""}, {"0.0.0.0", ""}, {"{real4}", ""}, {"::", "device=lo"}}
	for i, p := range places {
		cgroup := []string{"user", testhost.WorkloadCgroup("evil")}[i%2]
		f.holds(t, "another listener on the service's port", strings.TrimSpace(p.addr+" "+p.words), func(t *testing.T) { f.impostor(t, cgroup, p.addr, p.words) })
	}
	for _, at := range []string{"{v4}", "::ffff:{v4}"} {
		f.holds(t, "listener on a virtual address or its port", at, func(t *testing.T) { f.noListener(t, at) })
	}
	for _, at := range []string{"::", "0.0.0.0", "{host1}"} {
		f.holds(t, "listener on a virtual address or its port", at, func(t *testing.T) { f.virtualListener(t, at) })
	}
	f.holds(t, "listener whose process is moved into the workload", "", f.movedListener)
	f.holds(t, "listener older than the registration of its cgroup", "", f.olderListener)
}

// holds runs a test that isn't a row and counts it in the table. In open() its name
// stands in the field with.
func (f *fixture) holds(t *testing.T, vector, name string, check func(*testing.T)) {
	t.Helper()
	if !chosen(vector) {
		return
	}
	f.table.begin(vector)
	r := row{vector: vector, with: name}
	if isOpen(r, up) {
		f.table.leave(vector, up)
		return
	}
	held := t.Run(strings.ReplaceAll(vector+"/"+name, " ", "_"), check)
	f.table.add(vector, up, held)
	if held && listed(r, up) {
		t.Logf("listed in open(), but holds: %s %s", vector, name)
	}
}

// impostor: only db's workload can listen on db's port on db's node, also beside the
// server, by SO_REUSEPORT or on one address.
func (f *fixture) impostor(t *testing.T, cgroup, addr, words string) {
	p := f.host2.Start(t, cgroup, testhost.Python(), append([]string{f.script("serve.py"), f.place(addr), fmt.Sprint(servicePort)}, strings.Fields(words)...)...)
	<-p.Ended()
	if !strings.Contains(p.Output(), "Permission denied") {
		t.Errorf("the impostor in %s on %s %s: %s", cgroup, addr, words, p.Output())
	}
	for _, r := range []row{{from: "web", to: "{v4}:{port}"}, {from: "web2", to: "{here4}:{port}"}} {
		if o := f.one(r); o.said != "ok" {
			t.Errorf("%s, after an impostor: %s", o.row.from, o.said)
		}
	}
}

// virtualListener: a program that listens on db's virtual address, or on db's port on
// every address of the caller's node, gets no connection, and db does.
func (f *fixture) virtualListener(t *testing.T, at string) {
	p := f.host1.Start(t, "user", testhost.Python(), f.script("serve.py"), f.place(at), fmt.Sprint(servicePort))
	await(t, "the impostor listens", "listening", p.Output)
	for _, to := range []string{"{v4}:{port}", "[{v6}]:{port}", "{real4}:{port}"} {
		if o := f.one(row{from: "web", to: to}); o.said != "ok" {
			t.Errorf("web to %s: %s", to, o.said)
		}
		if o := f.one(row{from: "nobody", to: to}); o.said != refused {
			t.Errorf("nobody to %s: %s", to, o.said)
		}
	}
	if strings.Contains(p.Output(), "accepted") {
		t.Errorf("the listener on %s was called: %s", at, p.Output())
	}
	p.Signal(syscall.SIGKILL)
	<-p.Ended()
}

// noListener: only the daemon binds virtual addresses.
func (f *fixture) noListener(t *testing.T, at string) {
	p := f.host1.Start(t, "user", testhost.Python(), f.script("serve.py"), f.place(at), fmt.Sprint(servicePort))
	<-p.Ended()
	if !strings.Contains(p.Output(), "PermissionError") {
		t.Errorf("listen on %s: %s; want EACCES", at, p.Output())
	}
}

// movedListener: a program that already listens is moved into a workload's cgroup.
// Its socket still belongs to the old cgroup, so that it gets no connection.
func (f *fixture) movedListener(t *testing.T) {
	const port = "8100"
	f.host2.MakeWorkload(t, "moved")
	p := f.host2.Start(t, "user", testhost.Python(), f.script("serve.py"), "::", port)
	await(t, "it listens", "listening", p.Output)
	f.host2.Sh(t, fmt.Sprintf("echo %d > %s/cgroup.procs", p.PID(), f.host2.CgroupPath(testhost.WorkloadCgroup("moved"))))
	f.host2.Tacit(t, "service", "register", "moved", "--port", port)
	f.host1.Tacit(t, "intention", "allow", "web", "moved", "--wait")
	v4, _ := f.host1.Virtual(t, "moved")
	here4, _ := f.host2.Virtual(t, "moved")
	await(t, "host2 shows that the listener isn't the service's", "foreign", func() string { return f.host2.Tacit(t, "service", "show", "moved") })
	for from, to := range map[string]string{"web": v4.String(), "web2": here4.String()} {
		if o := f.one(row{from: from, to: to + ":" + port}); !oneOf(o.said, refusedOrReset) {
			t.Errorf("%s: %s", from, o.said)
		}
	}
	if strings.Contains(p.Output(), "accepted") {
		t.Errorf("it was called: %s", p.Output())
	}
	f.host2.Tacit(t, "service", "deregister", "moved")
	p.Signal(syscall.SIGKILL)
	<-p.Ended()
}

// olderListener: a program listens in a cgroup before the cgroup is registered as a
// workload. The socket belongs to that cgroup, so that it gets connections.
func (f *fixture) olderListener(t *testing.T) {
	const port = "8300"
	p := f.host2.Start(t, "early", testhost.Python(), f.script("serve.py"), "::", port)
	await(t, "it listens", "listening", p.Output)
	f.host2.Tacit(t, "service", "register", "early", "--port", port, "--cgroup", f.host2.CgroupPath("early"))
	f.host1.Tacit(t, "intention", "allow", "web", "early", "--wait")
	v4, _ := f.host1.Virtual(t, "early")
	await(t, "it answers", "ok", func() string { return f.one(row{from: "web", to: v4.String() + ":" + port}).said })
	for _, from := range []string{"evil", "outside"} {
		if o := f.one(row{from: from, to: "{real4}:" + port}); o.said != refused {
			t.Errorf("%s: %s", from, o.said)
		}
	}
	f.host2.Tacit(t, "service", "deregister", "early")
	p.Signal(syscall.SIGKILL)
	<-p.Ended()
}
