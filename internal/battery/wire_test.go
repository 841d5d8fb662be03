// SPDX-License-Identifier: Apache-2.0

package battery

import (
	"bytes"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"tacit/internal/testhost"
)

// wire is every frame between hosts, in a file.
type wire struct {
	file  string
	hosts *testhost.Net
	probe *testhost.Host
	n     int
}

// record begins to record; it ends with the test.
func record(t *testing.T, net *testhost.Net) *wire {
	t.Helper()
	w := &wire{file: filepath.Join(net.Dir(), "wire.pcap"), hosts: net}
	cmd := exec.Command("nsenter", "--net="+net.Namespace(), "--", "tcpdump", "-i", "br0", "-w", w.file, "-s", "0",
		"-B", "16384", "-U", "--immediate-mode", "-Z", "root")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Signal(syscall.SIGKILL); _ = cmd.Wait() })
	w.probe = net.Host(t, "probe")
	w.mark(t)
	return w
}

// mark sends a word in clear from one host to another until it is on record: then all before it is, too.
func (w *wire) mark(t *testing.T) {
	t.Helper()
	at := w.probe.Addr.As4()
	at[3] = 254 // the switch's own
	to := netip.AddrPortFrom(netip.AddrFrom4(at), 9).String()
	w.n++
	word := "MARK." + string(rune('0'+w.n)) + "."
	eventually(t, "the recorder sees the wire", word, func() string {
		c, err := w.probe.Dial("udp", to)
		if err == nil {
			_, _ = c.Write([]byte(word))
			c.Close()
		}
		return string(w.bytes())
	})
}

func (w *wire) bytes() []byte {
	text, _ := os.ReadFile(w.file)
	return text
}

// check wants neither a canary nor a packet for a virtual address on record.
func (w *wire) check(t *testing.T) {
	t.Helper()
	w.mark(t)
	seen := w.bytes()
	if at := bytes.Index(seen, []byte(canaryPrefix)); at >= 0 {
		t.Errorf("a canary was on the wire in clear: %.40q", seen[at:])
	}
	out, err := exec.Command("tcpdump", "-n", "-r", w.file, "net 240.64.0.0/12 or net fd7a:ac17::/32").Output()
	if err != nil || len(out) > 0 {
		t.Errorf("packets for virtual addresses on the wire: %v\n%s", err, out)
	}
}
