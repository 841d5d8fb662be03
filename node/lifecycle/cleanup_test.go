// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tacit/internal/testhost"
	"tacit/redirect"
)

// TestCleanupRefusesBesideADaemon: whoever answers on the socket is one.
func TestCleanupRefusesBesideADaemon(t *testing.T) {
	c := validConfig(t.TempDir())
	mkdir(t, c.RunDir)
	write(t, deadlineFile(c.Paths), "mark")
	ln, err := net.Listen("unix", c.Socket())
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	done, err := Cleanup(c)
	if err == nil || !strings.Contains(err.Error(), "tacitd is running") || len(done) > 0 || !exists(deadlineFile(c.Paths)) {
		t.Errorf("done %q, %v", done, err)
	}
}

// TestRemoveFiles: of RunDir only the daemon's own files go.
func TestRemoveFiles(t *testing.T) {
	c := validConfig(t.TempDir())
	if err := removeFiles(c.Paths); err != nil {
		t.Errorf("nothing there: %v", err)
	}
	mkdir(t, c.RunDir)
	others := filepath.Join(c.RunDir, "others")
	for _, path := range []string{c.Socket(), deadlineFile(c.Paths), deadlineFile(c.Paths) + ".new", others} {
		write(t, path, "")
	}
	if err := removeFiles(c.Paths); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(c.RunDir); err != nil || len(left) != 1 || !exists(others) {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestCleanupOnAHost: what a daemon that was killed leaves goes, and cleaning
// up twice is cleaning up once.
func TestCleanupOnAHost(t *testing.T) {
	host := testhost.NewNet(t).Host(t, "host1")
	c := hostConfig(host)
	same := host.Leaks(t)
	mkdir(t, c.RunDir)
	mkdir(t, c.BPFDir)
	mkdir(t, host.CgroupPath("tacit/daemon"))
	write(t, c.Socket(), "")
	write(t, deadlineFile(c.Paths), "mark")
	if err := host.Do(func() error { return redirect.Apply(hostRoutes()) }); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		var done []string
		err := host.Do(func() (err error) { done, err = Cleanup(c); return err })
		if err != nil || !slices.Contains(done, "removed: routes, rules and chains") {
			t.Errorf("done %q, %v", done, err)
		}
		same()
	}
	if exists(c.RunDir) {
		t.Errorf("%s is left", c.RunDir)
	}
}

func hostRoutes() redirect.Plan {
	return redirect.NewPlan(redirect.Config{Range4: netip.MustParsePrefix("240.64.0.0/12")})
}
