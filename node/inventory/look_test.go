// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tacit/identity"
	"tacit/internal/testhost"
	"tacit/node/config"
	"tacit/node/workload"
)

// TestLook is the life of a service: each step changes the host, and beside it
// stands what the next look finds.
func TestLook(t *testing.T) {
	h := newHost(t, config.Exclude{})
	var app workload.Cgroup
	var stop func()
	var stranger net.Listener
	steps := []struct {
		name    string
		do      func()
		cgroups int
		state   State
		dial    string
	}{
		{"defined", func() { h.file("app.hcl", `service { name = "app" port = 7001 workload { cgroup = "box/app" } }`) }, 0, StateNone, ""},
		{"another program listens", func() { stranger = h.listen(7001) }, 0, StateUnowned, ""},
		{"it ends", func() { _ = stranger.Close() }, 0, StateNone, ""},
		{"the cgroup is made", func() { app = h.cgroup("box/app") }, 1, StateNone, ""},
		{"its program listens", func() { stop = listenIn(t, app, "[::1]:7001") }, 1, StateVerified, "[::1]:7001"},
		{"another one beside it", func() { stranger = h.listen(7001) }, 1, StateUnowned, ""},
		{"that one ends", func() { _ = stranger.Close() }, 1, StateVerified, "[::1]:7001"},
		{"the program ends", func() { stop() }, 1, StateNone, ""},
		{"a program below its cgroup", func() { stop = listenIn(t, h.cgroup("box/app/inner"), "127.0.0.1:7001") }, 1, StateVerified, "127.0.0.1:7001"},
		{"it ends, too", func() { stop() }, 1, StateNone, ""},
		{"the cgroup is removed", func() { h.remove("box/app/inner", "box/app") }, 0, StateNone, ""},
	}
	for _, step := range steps {
		step.do()
		if _, changed := h.Look(); !changed {
			t.Errorf("%s: nothing changed", step.name)
		}
		s, ok := h.View().ByID("app")
		if !ok || len(s.Cgroups) != step.cgroups || s.Listener.State != step.state || dial(s) != step.dial {
			t.Errorf("%s: %v, %+v, dial %s; want %d cgroups, %s, dial %s", step.name, s.Cgroups, s.Listener, dial(s), step.cgroups, step.state, step.dial)
		}
		if l := h.Listener(s); l != s.Listener {
			t.Errorf("%s: a look at the port finds %+v", step.name, l)
		}
		if v, changed := h.Look(); changed || v != h.View() {
			t.Errorf("%s: it changes without a change", step.name)
		}
	}
}

// TestIngressIsNoProgram: no cgroup, whatever its name, makes a program an ingress.
func TestIngressIsNoProgram(t *testing.T) {
	h := newHost(t, config.Exclude{})
	h.file("a.hcl", `ingress { name = "a" port = 7002 service = "web" }`)
	h.cgroup("tacit/services/ingress/a")
	h.Look()
	s, ok := h.View().ByID("ingress/a")
	if !ok || len(s.Cgroups) > 0 {
		t.Errorf("%+v, %t", s, ok)
	}
	granted := func(identity.Name) bool { return true }
	if w, problems := h.View().Workloads(granted); len(w.Cgroups)+len(w.Namespaces)+len(w.Users)+len(w.Interfaces)+len(problems) > 0 {
		t.Errorf("workloads %+v, problems %v", w, problems)
	}
	if guards, _ := h.View().Guards(32768, 60999); len(guards) > 0 {
		t.Errorf("the port of an ingress is guarded: %+v", guards)
	}
}

// dial is where a service is dialled, "" while it can't be.
func dial(s Service) string {
	if !s.Listener.Serves() {
		return ""
	}
	return s.Listener.Addr.String()
}

// TestRemovedCgroup: a socket whose cgroup is gone belongs to nobody, whatever
// is made in its place: at once for whoever dials, and with the next slow look
// for the View.
func TestRemovedCgroup(t *testing.T) {
	h := newHost(t, config.Exclude{})
	h.file("app.hcl", `service { name = "app" port = 7005 workload { cgroup = "app" } }`)
	inner := h.cgroup("app/inner")
	listenIn(t, inner, "127.0.0.1:7005")
	h.Look()
	if l := h.byID("app").Listener; l.State != StateVerified {
		t.Fatalf("%+v", l)
	}
	pid, err := os.ReadFile(filepath.Join(inner.Path, "cgroup.procs"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(h.cgroup("elsewhere").Path, "cgroup.procs"), pid, 0); err != nil {
		t.Fatal(err)
	}
	h.remove("app/inner")
	h.cgroup("app/inner")
	if l := h.Listener(h.byID("app")); l.State != StateUnowned {
		t.Errorf("for whoever dials: %+v", l)
	}
	h.slowLook = time.Now().Add(-slowInterval)
	if v, changed := h.Look(); !changed || v.Services[0].Listener.State != StateUnowned {
		t.Errorf("in the View: %+v", v.Services[0].Listener)
	}
}

// TestLookWithoutDescriptors: what can't be opened is as it was for the View, and
// unknown for whoever dials.
func TestLookWithoutDescriptors(t *testing.T) {
	h := newHost(t, config.Exclude{})
	h.file("app.hcl", `service { name = "app" port = 7005 workload { cgroup = "app" } }`)
	stop := listenIn(t, h.cgroup("app"), "127.0.0.1:7005")
	h.Look()
	before, last := h.View(), h.byID("app")
	h.slowLook = time.Now().Add(-slowInterval)
	testhost.WithDescriptors(t, 0, func() {
		if v, changed := h.Look(); changed || v != before {
			t.Errorf("in the View: %+v", v.Services)
		}
		if l := h.Listener(last); l.Serves() || !l.Short {
			t.Errorf("for whoever dials: %+v", l)
		}
	})
	if l := h.Listener(last); l != last.Listener || l.State != StateVerified {
		t.Errorf("for whoever dials afterwards: %+v, was %+v", l, last.Listener)
	}
	stop()
	if _, changed := h.Look(); !changed {
		t.Error("the next look finds no change")
	}
}

// TestUnits: a definition that names no workload is served by the unit of its
// service's name, or by anybody where there is no such unit.
func TestUnits(t *testing.T) {
	h := newHost(t, config.Exclude{})
	h.file("a.hcl", `service { name = "db" port = 7006 } service { name = "none" port = 7007 }`)
	unit := h.cgroup("system.slice/db.service")
	listenIn(t, unit, "127.0.0.1:7006")
	listenIn(t, h.cgroup("system.slice/other.service"), "127.0.0.1:7007")
	h.Look()
	if s := h.byID("db"); s.Listener.State != StateVerified || s.Listener.Anyone || !slices.Equal(s.Cgroups, []workload.Cgroup{unit}) {
		t.Errorf("%+v", s)
	}
	if s := h.byID("none"); s.Listener.State != StateUnverified || !s.Listener.Anyone {
		t.Errorf("without a workload: %+v", s)
	}
	h.file("a.hcl", `service { name = "db" port = 7007 workload { systemd_unit = "db" } }`)
	h.Look()
	if s := h.byID("db"); s.Listener.State != StateUnowned {
		t.Errorf("held by another unit: %+v", s)
	}
}

// remove removes cgroups.
func (h *host) remove(paths ...string) {
	h.t.Helper()
	for _, path := range paths {
		path = filepath.Join(h.root, path)
		testhost.Eventually(h.t, 5*time.Second, "remove "+path, func() error { return unix.Rmdir(path) }) // busy while a process ends
	}
}

// TestEvents: while Run lives, what changes is an event, and a look walks the
// tree only after one.
func TestEvents(t *testing.T) {
	h := newHost(t, config.Exclude{})
	h.file("a.hcl", `service { name = "db" } service { name = "app" workload { cgroup = "box/app" } } service { name = "c" workload { container = "0123456789ab" } }`)
	ctx, cancel := context.WithCancel(t.Context())
	events, ended := make(chan struct{}, 1000), make(chan error, 1)
	go func() { ended <- h.Run(ctx, func() { events <- struct{}{} }) }()
	<-events // the watcher is there
	testhost.Eventually(t, 5*time.Second, "every directory is followed", func() error {
		if h.Look(); !h.cgroups.hold() {
			return fmt.Errorf("blind: %t", h.cgroups.blind)
		}
		return nil
	})
	for _, step := range []struct {
		id, path string
		made     []string
	}{
		{"db", "system.slice/db.service", nil},
		{"db", "tacit/services/db", []string{"tacit", "tacit/services"}},
		{"app", "box/app", []string{"box"}},
		{"c", "docker/0123456789ab", []string{"docker"}},
		{"c", "new.slice/pod/0123456789ab", []string{"new.slice", "new.slice/pod"}},
	} {
		for _, above := range step.made { // each in a directory that was followed before
			h.cgroup(above)
			<-events
			h.Look()
		}
		made := h.cgroup(step.path)
		h.awaits(events, step.id, []workload.Cgroup{made})
		h.remove(step.path)
		h.awaits(events, step.id, nil)
	}
	h.write("a.hcl", `service { name = "web" }`)
	testhost.Eventually(t, 10*time.Second, "the file is read", func() error {
		h.Look()
		if _, ok := h.View().ByID("web"); !ok {
			return os.ErrNotExist
		}
		return nil
	})
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	h.cgroup("system.slice/web.service")
	if h.Look(); len(h.View().Services[0].Cgroups) != 1 {
		t.Error("without events a look doesn't find what was made")
	}
}

// awaits looks after each event until the service has these cgroups.
func (h *host) awaits(events <-chan struct{}, id string, want []workload.Cgroup) {
	h.t.Helper()
	late := time.After(5 * time.Second)
	for {
		select {
		case <-events:
		case <-late:
			h.t.Fatalf("%s: no event; want %v", id, want)
		}
		if h.Look(); slices.Equal(h.byID(id).Cgroups, want) {
			return
		}
	}
}

func (h *host) byID(id string) Service {
	s, _ := h.View().ByID(id)
	return s
}

// TestLookNetwork: a workload that is a network namespace or an interface.
func TestLookNetwork(t *testing.T) {
	h := newHost(t, config.Exclude{})
	h.file("a.hcl", `service { name = "box" workload { netns = "/proc/thread-self/ns/net" } }
		service { name = "gone" workload { netns = "/none" } }
		service { name = "vm" workload { interface = "lo" } }
		service { name = "off" workload { interface = "tap9" } }`)
	v, _ := h.Look()
	own, err := workload.Namespace("/proc/thread-self/ns/net")
	if err != nil || own == 0 {
		t.Fatal(own, err)
	}
	for id, want := range map[string]string{"box": fmt.Sprint(own, " []"), "gone": "0 []", "vm": "0 [1]", "off": "0 []"} {
		s, _ := v.ByID(id)
		if got := fmt.Sprint(s.Namespace, s.Interfaces); got != want || (len(s.Unfound) > 0) != (id == "off") {
			t.Errorf("%s: %s, %v; want %s", id, got, s.Unfound, want)
		}
	}
	if _, changed := h.Look(); changed {
		t.Error("it changes without a change")
	}
}

// TestLookExcluded: the ids of excluded cgroups, and which users run in those
// of workloads.
func TestLookExcluded(t *testing.T) {
	root := newRoot(t)
	sshd, me := filepath.Join(root, "sshd"), uint32(os.Getuid())
	h := newHost(t, config.Exclude{})
	h.root = root
	h.reopen(config.Exclude{Cgroups: []string{sshd}, UIDs: []uint32{me}})
	h.file("a.hcl", `service { name = "app" workload { cgroup = "app" } }`)
	app := h.cgroup("app")
	listenIn(t, app, "127.0.0.1:7002")
	if v, _ := h.Look(); len(v.Excluded) > 0 || !slices.Contains(v.Services[0].Users, me) {
		t.Errorf("%v, users %v", v.Excluded, v.Services[0].Users)
	}
	made := h.cgroup("sshd")
	v, changed := h.Look()
	if !changed || v.Excluded[sshd] != made.ID {
		t.Errorf("%t, %v, want %v", changed, v.Excluded, made)
	}
	x, problems := v.Exclusions(h.conf.Settings.Exclude)
	if !slices.Equal(x.Cgroups, []uint64{made.ID}) || len(problems) != 1 {
		t.Errorf("%+v, %v", x, problems)
	}
}
