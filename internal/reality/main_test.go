// SPDX-License-Identifier: Apache-2.0

// Package reality runs software that people have, unmodified and from Debian's
// packages, over a mesh: PostgreSQL, Redis, nginx, sshd and rsync as services,
// and their own clients as callers. It also counts what callers notice when a
// program, a daemon, a node or a link fails. It must not use a client or server
// of its own where a stock one does, nor look inside the product.
package reality

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// caller is the service that calls; stranger is one that never may.
const (
	caller   = "app"
	stranger = "other"
)

// fixture is a mesh whose second node runs every service of the table. Calls
// come from the first node, and from the second itself.
type fixture struct {
	m      *testhost.Mesh
	here   *testhost.Host // where the services run
	remote *testhost.Host
}

// TestSoftware has one mesh for everything: most of its time is the start of
// the servers.
func TestSoftware(t *testing.T) {
	testhost.VerifyNone(t)
	f := &fixture{}
	grants := []string{caller, stranger}
	for _, s := range software() {
		grants = append(grants, s.service)
	}
	f.m = testhost.NewMesh(t, testhost.MeshOptions{Nodes: 2, Grants: grants, Prepare: func(m *testhost.Mesh) {
		// As a capability would: sshd and rsync serve their own ports without being root.
		testhost.Must(t, m.Nodes[1].Sysctl("net/ipv4/ip_unprivileged_port_start", "0"))
	}})
	f.remote, f.here = f.m.Nodes[0], f.m.Nodes[1]
	for _, s := range software() {
		s.start(t, f, s)
	}
	for _, s := range software() {
		f.here.AwaitListener(t, s.port)
		f.here.Tacit(t, "service", "register", s.service, "--port", strconv.Itoa(s.port))
	}
	t.Run("intentions", f.intentions)
	t.Run("postgres", f.postgres)
	t.Run("redis", f.redis)
	t.Run("nginx", f.nginx)
	t.Run("ssh", f.ssh)
	t.Run("rsync", f.rsync)
	t.Run("endings", f.endings)
}

// from runs a test once for calls from another node, and once on the same node.
func (f *fixture) from(t *testing.T, what func(*testing.T, *testhost.Host)) {
	t.Run("remote", func(t *testing.T) { what(t, f.remote) })
	t.Run("same node", func(t *testing.T) { what(t, f.here) })
}

// serve starts a server as a user without privileges, in a workload of its
// service. It has an IPC namespace of its own, so that a killed PostgreSQL
// leaves no shared memory on this machine.
func (f *fixture) serve(t *testing.T, s program, args ...string) {
	t.Helper()
	f.here.StartAs(t, s.service, "unshare", append([]string{"--ipc", "--"}, asUser(s.user, args...)...)...)
}

func asUser(name string, args ...string) []string {
	return append([]string{"setpriv", "--reuid=" + name, "--regid=" + name, "--clear-groups", "--"}, args...)
}

// dir makes a directory of a service's own, and files in it.
func (f *fixture) dir(t *testing.T, s program, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(f.here.Dir, s.service)
	testhost.Must(t, os.Mkdir(dir, 0o700))
	for name, text := range files {
		testhost.WriteFile(t, filepath.Join(dir, name), text)
	}
	own(t, s.user, dir)
	return dir
}

// own gives a directory and what is in it to a user.
func own(t *testing.T, name, dir string) {
	t.Helper()
	u, err := user.Lookup(name)
	testhost.Must(t, err)
	testhost.Must(t, run(exec.Command("chown", "-R", u.Uid+":"+u.Gid, dir)))
}

func run(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// says runs a client as the caller and fails the test unless it succeeds and
// prints want.
func says(t *testing.T, h *testhost.Host, want, name string, args ...string) (out string) {
	t.Helper()
	began := time.Now()
	out, exit := h.RunAs(t, caller, name, args...)
	if exit != 0 || !strings.Contains(out, want) {
		t.Fatalf("%s$ %s %s: exit %d after %s, want %q in\n%s", h.Name, name, strings.Join(args, " "), exit, time.Since(began), want, out)
	}
	return out
}
