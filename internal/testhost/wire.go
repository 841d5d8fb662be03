// SPDX-License-Identifier: Apache-2.0

package testhost

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Wire is every frame between the hosts of a Net, on record in a file.
type Wire struct {
	net   *Net
	file  string
	marks int
}

// Record begins to record what crosses the switch; it ends with the test.
func (n *Net) Record(t testing.TB) *Wire {
	t.Helper()
	w := &Wire{net: n, file: filepath.Join(n.dir, "wire.pcap")}
	cmd := exec.Command("nsenter", "--net="+n.Namespace(), "--", "tcpdump", "-i", "br0", "-w", w.file, "-s", "0",
		"-B", "65536", "-U", "--immediate-mode", "-Z", "root")
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Signal(syscall.SIGKILL); _ = cmd.Wait() })
	w.Mark(t)
	return w
}

// Mark sends a word in clear over the switch until it is on record: then all
// that was sent before is, too.
func (w *Wire) Mark(t testing.TB) {
	t.Helper()
	w.marks++
	word := fmt.Sprintf("MARK.%d.", w.marks)
	to := fmt.Sprintf("%s:9", w.net.addr4(253)) // nobody has it, and nobody is asked who has
	must(t, command("", "ip", "-n", w.net.key.namespace("switch"), "neigh", "replace", w.net.addr4(253).String(),
		"lladdr", "02:00:00:00:00:01", "dev", "br0"))
	Eventually(t, 20*time.Second, "the recorder sees the wire", func() error {
		if err := inside(w.net.Namespace(), func() error { return shout(to, word) }); err != nil {
			return err
		}
		if !bytes.Contains(w.last(1<<20), []byte(word)) {
			return fmt.Errorf("%s isn't on record", word)
		}
		return nil
	})
}

// shout sends one datagram from the current namespace.
func shout(to, word string) error {
	c, err := net.Dial("udp", to)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Write([]byte(word))
	return err
}

func (w *Wire) last(n int64) []byte {
	f, err := os.Open(w.file)
	if err != nil {
		return nil
	}
	defer f.Close()
	end, _ := f.Seek(0, 2)
	buf := make([]byte, min(n, end))
	_, _ = f.ReadAt(buf, end-int64(len(buf)))
	return buf
}

// Times says how often a word is on record, anywhere in a frame.
func (w *Wire) Times(t testing.TB, word string) int {
	t.Helper()
	text, err := os.ReadFile(w.file)
	must(t, err)
	return bytes.Count(text, []byte(word))
}

// Frames are the lines of tcpdump about the frames on record that a filter
// fits.
func (w *Wire) Frames(t testing.TB, filter string) []string {
	t.Helper()
	out, err := exec.Command("tcpdump", "-n", "-r", w.file, filter).Output()
	must(t, err)
	text := strings.TrimSpace(string(out))
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}
