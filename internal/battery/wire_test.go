// SPDX-License-Identifier: Apache-2.0

package battery

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
	"time"

	"tacit/internal/testhost"
)

const canaryPrefix = "CANARY."

// wire is every frame between hosts, in a file.
type wire struct {
	file    string
	hosts   *testhost.Net
	probe   *testhost.Host
	outside *testhost.Host // who may send what he likes
	n       int
	offset  int64 // looked at so far
}

// record begins to record; it ends with the test.
func record(t *testing.T, net *testhost.Net, outside *testhost.Host) *wire {
	t.Helper()
	w := &wire{file: filepath.Join(net.Dir(), "wire.pcap"), hosts: net, outside: outside}
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

// mark sends a word in clear from one host to another until it is on record:
// then all before it is, too. It returns what was recorded since the last mark.
func (w *wire) mark(t *testing.T) []byte {
	t.Helper()
	at := w.probe.Addr.As4()
	at[3] = 254 // the switch's own
	to := netip.AddrPortFrom(netip.AddrFrom4(at), 9).String()
	w.n++
	word := fmt.Sprintf("MARK.%d.", w.n)
	var seen []byte
	testhost.Eventually(t, 10*time.Second, "the recorder sees the wire", func() error {
		if c, err := w.probe.Dial("udp", to); err == nil {
			_, _ = c.Write([]byte(word))
			c.Close()
		}
		seen = append(seen, w.more(t)...)
		if !bytes.Contains(seen, []byte(word)) {
			return fmt.Errorf("no %s yet", word)
		}
		return nil
	})
	return seen
}

// more is what the file has got since it was last read.
func (w *wire) more(t *testing.T) []byte {
	f, err := os.Open(w.file)
	if os.IsNotExist(err) {
		return nil
	}
	must(t, err)
	defer f.Close()
	text, err := io.ReadAll(io.NewSectionReader(f, w.offset, 1<<40))
	must(t, err)
	w.offset += int64(len(text))
	return text
}

var canaries = regexp.MustCompile(regexp.QuoteMeta(canaryPrefix) + `\d+\.`)

// leaked are the canaries on the wire since it was last looked at.
func (w *wire) leaked(t *testing.T) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	for _, canary := range canaries.FindAll(w.mark(t), -1) {
		found[string(canary)] = true
	}
	return found
}

// check wants no canary that no row answers for, nor, since the beginning, a
// packet for a virtual address, but for the segments that rows make by themselves.
func (w *wire) check(t *testing.T) {
	t.Helper()
	if found := w.leaked(t); len(found) > 0 {
		t.Errorf("canaries were on the wire in clear: %v", found)
	}
	const virtual = "net 240.64.0.0/12 or net fd7a:ac17::/32"
	ours := fmt.Sprintf("portrange 20000-29999 or host %s or host %s", w.outside.Addr, w.outside.Addr6) // rows' own
	out, err := exec.Command("tcpdump", "-n", "-r", w.file, "(ip or ip6) and ("+virtual+") and not ("+ours+")").Output()
	if err != nil || len(out) > 0 {
		t.Errorf("packets for virtual addresses on the wire: %v\n%s", err, out)
	}
}
