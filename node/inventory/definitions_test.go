// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"tacit/identity"
	"tacit/node/config"
	"tacit/node/definition"
	"tacit/node/health"
)

// ids are the instances that are defined, with their sources.
func (h *host) ids() string {
	h.t.Helper()
	h.Look()
	h.Keep()
	v, err := h.Defined()
	if err != nil {
		h.t.Fatal(err)
	}
	var looked, defined []string
	for _, s := range h.View().Services {
		looked = append(looked, fmt.Sprintf("%s:%d", s.ID, s.Port))
	}
	for _, s := range v.Services {
		defined = append(defined, fmt.Sprintf("%s:%d", s.ID, s.Port))
	}
	if !slices.Equal(looked, defined) {
		h.t.Errorf("a look finds %v, defined are %v", looked, defined)
	}
	return strings.Join(defined, " ")
}

// TestDefinitions: what files and commands define, over restarts of the daemon.
func TestDefinitions(t *testing.T) {
	h := newHost(t, config.Exclude{})
	register := func(id string, port uint16) func() {
		return func() {
			err := h.Register(definition.Definition{Name: identity.Name(id), ID: id, Port: port, Source: SourceCommand})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	deregister := func(id string) func() {
		return func() {
			if err := h.Deregister(id); err != nil {
				t.Fatal(err)
			}
		}
	}
	file := func(text string) func() { return func() { h.file("a.hcl", text) } }
	for _, step := range []struct {
		name string
		do   func()
		want string
		bad  bool
	}{
		{"nothing", func() {}, "", false},
		{"a file", file(`service { name = "db" port = 1 }`), "db:1", false},
		{"a command", register("web", 2), "db:1 web:2", false},
		{"a command for what the file defines", register("db", 3), "db:1 web:2", false},
		{"a bad file keeps what it said", file(`service {`), "db:1 web:2", true},
		{"also over a restart", func() { h.reopen(config.Exclude{}) }, "db:1 web:2", true},
		{"an empty file", file(``), "db:3 web:2", false},
		{"deregistered", deregister("web"), "db:3", false},
		{"deregistered again", deregister("web"), "db:3", false},
		{"over a restart", func() { h.reopen(config.Exclude{}) }, "db:3", false},
	} {
		step.do()
		if got := h.ids(); got != step.want {
			t.Errorf("%s: %q, want %q", step.name, got, step.want)
		}
		if err := h.board.Get(health.Files, ""); (err != nil) != step.bad {
			t.Errorf("%s: service files: %v", step.name, err)
		}
	}
}

// TestIgnoredSettings: what a file says in vain is logged once, and again when
// it is said again.
func TestIgnoredSettings(t *testing.T) {
	h := newHost(t, config.Exclude{})
	for _, step := range []struct {
		text string
		want int // lines so far
	}{
		{`service { name = "db" token = "x" }`, 1},
		{`service { name = "db" token = "y" port = 1 }`, 1},
		{`service { name = "db" }`, 1},
		{`service { name = "db" token = "x" }`, 2},
	} {
		h.file("a.hcl", step.text)
		h.ids()
		if n := strings.Count(h.log.String(), "a.hcl:1: service.token: there are no ACL tokens"); n != step.want {
			t.Errorf("%s: %d lines, want %d:\n%s", step.text, n, step.want, h.log.String())
		}
	}
}

// TestUnreadableRegistrations: what can't be read opens no port.
func TestUnreadableRegistrations(t *testing.T) {
	h := newHost(t, config.Exclude{})
	if err := h.store.PutService("db", definition.Definition{Name: "db", ID: "db", Port: 5432, Source: SourceCommand}); err != nil {
		t.Fatal(err)
	}
	if got := h.ids(); got != "db:5432" {
		t.Fatalf("%q", got)
	}
	if err := h.store.PutService("web", "no definition"); err != nil {
		t.Fatal(err)
	}
	h.file("a.hcl", "")
	h.Look()
	h.Keep()
	if err := h.board.Get(health.Services, ""); err == nil || !strings.Contains(err.Error(), "registered service web") {
		t.Errorf("services: %v", err)
	}
	if _, ok := h.View().ByID("db"); !ok {
		t.Error("db's port is open")
	}
	if _, err := h.Defined(); err == nil {
		t.Error("defined in spite of it")
	}
	if err := h.Deregister("web"); err != nil {
		t.Fatal(err)
	}
	if got, err := h.ids(), h.board.Get(health.Services, ""); got != "db:5432" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// TestHeld: a service file that would close the port by which somebody is
// logged in waits for a yes; it is decided once, and what was in force stays so.
func TestHeld(t *testing.T) {
	h := newHost(t, config.Exclude{})
	loggedIn := map[uint16]bool{}
	ask := func() { h.held.loggedIn = func(port uint16) bool { return loggedIn[port] } }
	ask()
	restart := func() { h.reopen(config.Exclude{}); ask() }
	const db, ssh = `service { name = "db" port = 5432 } `, `service { name = "ssh" port = 22 } `
	for _, step := range []struct {
		name  string
		do    func()
		ids   string
		waits bool // ssh does
	}{
		{"nobody is logged in by 5432", func() { h.file("a.hcl", db) }, "db:5432", false},
		{"somebody is now, and it stays", func() { loggedIn[5432], loggedIn[22] = true, true; h.file("a.hcl", db+"# again") }, "db:5432", false},
		{"over a restart, too", restart, "db:5432", false},
		{"somebody is logged in by 22", func() { h.file("a.hcl", db+ssh) }, "db:5432", true},
		{"nobody any more: it was decided", func() { loggedIn[22] = false; h.file("b.hcl", "") }, "db:5432", true},
		{"over a restart, too", restart, "db:5432", true},
		{"the definition goes", func() { h.file("a.hcl", db) }, "db:5432", false},
		{"and comes when nobody is there", func() { h.file("a.hcl", db+ssh) }, "db:5432 ssh:22", false},
		{"goes again", func() { h.file("a.hcl", db) }, "db:5432", false},
		{"permissive closes nothing", func() { loggedIn[22] = true; h.file("a.hcl", `service { name = "ssh" port = 22 mode = "permissive" }`) }, "ssh:22", false},
		{"strict does", func() { h.file("a.hcl", ssh) }, "", true},
		{"somebody says yes", func() {
			if was, err := h.Release(definition.Definition{ID: "ssh", Port: 22}); !was || err != nil {
				t.Errorf("released: %t, %v", was, err)
			}
		}, "ssh:22", false},
		{"over a restart, too", restart, "ssh:22", false},
	} {
		step.do()
		if got := h.ids(); got != step.ids {
			t.Errorf("%s: %q, want %q", step.name, got, step.ids)
		}
		if waits := h.Held(definition.Definition{ID: "ssh", Port: 22}); waits != step.waits || (h.board.Get(health.Held, "ssh") != nil) != step.waits {
			t.Errorf("%s: waits: %t; status: %v", step.name, waits, h.board.Get(health.Held, "ssh"))
		}
	}
	if was, err := h.Release(definition.Definition{ID: "ssh", Port: 22}); was || err != nil {
		t.Errorf("released twice: %t, %v", was, err)
	}
}

// fullDisk refuses what is written.
type fullDisk struct{ Store }

func (fullDisk) Set(string, []byte) error { return errors.New("no room") }

// TestKeepReports: what can't be kept is a problem until it can.
func TestKeepReports(t *testing.T) {
	h := newHost(t, config.Exclude{})
	kept := []*setting{&h.defined.files, &h.held.kept}
	for _, s := range kept {
		s.store = fullDisk{h.store}
	}
	h.file("a.hcl", `service { name = "db" port = 5432 }`)
	for _, full := range []bool{true, true, false} {
		if !full {
			for _, s := range kept {
				s.store = h.store
			}
		}
		h.Look()
		h.Keep()
		for _, f := range []health.Family{health.FilesOnDisk, health.HeldFiles} {
			if err := h.board.Get(f, ""); (err != nil) != full {
				t.Errorf("disk full: %t; %s: %v", full, f, err)
			}
		}
	}
}
