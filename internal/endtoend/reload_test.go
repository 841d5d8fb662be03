// SPDX-License-Identifier: Apache-2.0

package endtoend

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// TestReload: SIGHUP reads service files and config again. What can't change live
// is named, a bad file keeps what runs, and systemd learns when it is done.
func TestReload(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tacitd.hcl")
	testhost.WriteFile(t, file, "log_level = \"info\"\n")
	m := testhost.NewMesh(t, testhost.MeshOptions{First: []string{"--config", file}})
	h := m.Nodes[0]
	d := h.Current(t)
	says := func(lines ...string) {
		t.Helper()
		for _, line := range lines {
			testhost.AwaitText(t, 10*time.Second, line, line, d.Output)
		}
	}
	socket := filepath.Join(h.Dir, "notify.sock")
	testhost.Must(t, os.Remove(socket)) // that of the start
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	testhost.Must(t, err)
	defer notify.Close()

	service := filepath.Join(h.Services, "web.hcl")
	testhost.WriteFile(t, service, `service { name = "web" port = 80 }`)
	testhost.WriteFile(t, file, "log_level = \"debug\"\nlog_format = \"json\"\nlane_port = 8000\n")
	d.Signal(syscall.SIGHUP)
	says(`"msg":"log changed","log_level":"debug","log_format":"json"`, `"msg":"lane_port changed: restart tacitd to apply"`,
		service+":1", `"msg":"reloaded","count":1`)
	if out := h.Tacit(t, "service", "show", "web"); !strings.Contains(out, service+":1") {
		t.Errorf("after the reload: %s", out)
	}
	var said []string
	buf := make([]byte, 4096)
	testhost.Eventually(t, 5*time.Second, "systemd is told", func() error {
		testhost.Must(t, notify.SetReadDeadline(time.Now().Add(time.Second)))
		n, err := notify.Read(buf)
		said = append(said, string(buf[:n]))
		if err != nil || !strings.Contains(said[len(said)-1], "READY=1") {
			return fmt.Errorf("%q, %v", said, err)
		}
		return nil
	})
	if !strings.HasPrefix(said[0], "RELOADING=1\nMONOTONIC_USEC=") {
		t.Errorf("systemd was told %q", said)
	}

	testhost.WriteFile(t, service, `service { name = "web" port = 70000 }`)
	testhost.WriteFile(t, file, "log_level = \"debug\"\nlog_format =\n")
	d.Signal(syscall.SIGHUP)
	says(`"msg":"service file refused, its last good version stays in force","at":"`+service+`:1"`,
		`"msg":"config not reloaded, the running settings stay","err":"config: `+file+`:2: `, `"msg":"reloaded","count":2`)
	if out := h.Tacit(t, "service", "show", "web"); !strings.Contains(out, ":80 ") {
		t.Errorf("after a bad file: %s", out)
	}

	testhost.Must(t, os.Remove(service))
	d.Signal(syscall.SIGHUP)
	says(`"msg":"service removed","service":"web"`, `"msg":"reloaded","count":3`)
}
