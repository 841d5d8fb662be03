// SPDX-License-Identifier: Apache-2.0

package control

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"strings"
	"testing"

	"tacit/internal/testhost"
	"tacit/node/api"
	"tacit/node/definition"
	"tacit/node/inventory"
	"tacit/node/workload"
)

var loopback6379 = netip.MustParseAddrPort("127.0.0.1:6379")

// newTree is the cgroup tree of a host of the test's own.
func newTree(t *testing.T) (workload.Tree, *testhost.Host) {
	t.Helper()
	host := testhost.NewNet(t).Host(t, "host1")
	tree, err := workload.NewTree(host.Cgroup)
	if err != nil {
		t.Fatal(err)
	}
	return tree, host
}

// in gives the fixture a cgroup tree.
func (f *fixture) in(tree workload.Tree) *fixture {
	f.Config.Tree = tree
	f.Backend = New(f.Config)
	return f
}

// onHost is a fixture with a cgroup tree, and a program that waits in it.
func onHost(t *testing.T) (*fixture, *testhost.Process) {
	t.Helper()
	tree, host := newTree(t)
	return newFixture(t).in(tree), host.Start(t, "shell", "sleep", "600")
}

// TestRun: the caller becomes a workload of the service, which is registered
// and granted where it wasn't.
func TestRun(t *testing.T) {
	f, program := onHost(t)
	f.inventory.has(definition.Definition{Name: "db", Port: 5432}, inventory.StateNone)
	ctx := api.WithPeer(t.Context(), api.Peer{PID: int32(program.PID())})
	for _, c := range []struct {
		service             api.Name
		registered, granted bool
	}{
		{"web", true, true},
		{"web", false, false},
		{"db", false, true},
	} {
		rescans := f.inventory.rescans
		out, err := f.Services.Run(ctx, api.RunRequest{Service: c.service})
		if err != nil {
			t.Fatal(err)
		}
		if out.Registered != c.registered || out.GrantSigned != c.granted || out.Cgroup != f.Tree.ServicePath(c.service) || f.inventory.rescans != rescans+1 {
			t.Errorf("%s: %+v, %d rescans", c.service, out, f.inventory.rescans-rescans)
		}
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", program.PID()))
		if err != nil || !strings.HasSuffix(strings.TrimSpace(string(text)), "/tacit/services/"+string(c.service)) {
			t.Errorf("%s: the process is in %s, %v", c.service, text, err)
		}
		if len(f.loop.Catalog().Instances(c.service)) != 1 {
			t.Errorf("%s has %d instances", c.service, len(f.loop.Catalog().Instances(c.service)))
		}
	}
}

func TestRunRefusals(t *testing.T) {
	f, program := onHost(t)
	peer := api.WithPeer(t.Context(), api.Peer{PID: int32(program.PID())})
	_, err := f.Services.Run(t.Context(), api.RunRequest{Service: "web"})
	differs(t, "nobody asks", says(err), "2: the kernel doesn't say which process is asking")
	f.Member.Operator = nil
	_, err = f.Services.Run(peer, api.RunRequest{Service: "web"})
	differs(t, "no grant", says(err), "1: service web is not granted to node host1")
	if len(f.inventory.services) > 0 {
		t.Errorf("registered all the same: %+v", f.inventory.services)
	}
}

// TestDeregister begins with three instances of db, the third one of a file,
// and with the cgroup that `tacit run db` has made.
func TestDeregister(t *testing.T) {
	byCommand := func(id string, port uint16) definition.Definition {
		return definition.Definition{Name: "db", ID: id, Port: port, Source: inventory.SourceCommand}
	}
	tree, _ := newTree(t)
	for name, c := range map[string]struct {
		r             api.Deregistration
		removed, left string
		notes         string
		says          string
	}{
		"one":          {r: api.Deregistration{Name: "db", ID: "db-1"}, removed: "db-1", left: "db-2 db-3", says: "done"},
		"all":          {r: api.Deregistration{Name: "db"}, removed: "db-1 db-2", left: "db-3", notes: "db-3 is defined in db.hcl:1; remove it there", says: "done"},
		"of a file":    {r: api.Deregistration{Name: "db", ID: "db-3"}, left: "db-1 db-2 db-3", says: "1: no instance of db on this node was registered by command [db-3 is defined in db.hcl:1; remove it there]"},
		"another id":   {r: api.Deregistration{Name: "db", ID: "web"}, left: "db-1 db-2 db-3", says: "1: no instance of db on this node was registered by command [tacit services lists the instances of this node]"},
		"another name": {r: api.Deregistration{Name: "web"}, left: "db-1 db-2 db-3", says: "1: no instance of web on this node was registered by command [tacit services lists the instances of this node]"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t).in(tree)
			f.inventory.has(byCommand("db-1", 5432), inventory.StateVerified)
			f.inventory.has(byCommand("db-2", 5433), inventory.StateVerified)
			f.inventory.has(definition.Definition{Name: "db", ID: "db-3", Port: 5434}, inventory.StateVerified)
			if err := f.Grant("host1", "db", false); err != nil {
				t.Fatal(err)
			}
			f.loop.Settle()
			if _, err := f.Tree.ServiceCgroup("db"); err != nil {
				t.Fatal(err)
			}
			out, err := f.Services.Deregister(t.Context(), c.r)
			differs(t, "answer", says(err), c.says)
			if err == nil {
				differs(t, "removed", strings.Join(out.Removed, " "), c.removed)
				differs(t, "notes", strings.Join(out.Notes, "\n"), c.notes)
				if _, err := os.Stat(f.Tree.ServicePath("db")); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("the empty cgroup is there: %v", err)
				}
			}
			var left []string
			for _, in := range f.loop.Catalog().Instances("db") {
				left = append(left, in.ID)
			}
			differs(t, "left", strings.Join(left, " "), c.left)
		})
	}
}
