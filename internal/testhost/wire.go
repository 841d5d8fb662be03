// SPDX-License-Identifier: Apache-2.0

package testhost

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Wire is a capture of every frame between the hosts of a Net.
type Wire struct {
	net    *Net
	file   string
	marks  int
	offset int64 // returned by Recorded so far
}

// Record starts the capture, which ends with the test.
func (n *Net) Record(t testing.TB) *Wire {
	t.Helper()
	w := &Wire{net: n, file: filepath.Join(n.dir, "wire.pcap")}
	cmd := exec.Command("nsenter", "--net="+n.Namespace(), "--", "tcpdump", "-i", "br0", "-w", w.file, "-s", "0",
		"-B", "65536", "-U", "--immediate-mode", "-Z", "root")
	Must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Signal(syscall.SIGKILL); _ = cmd.Wait() })
	w.Mark(t)
	return w
}

// Mark waits until the capture contains everything that was sent so far: it
// sends a marker over the switch until the marker is in the capture.
func (w *Wire) Mark(t testing.TB) {
	t.Helper()
	w.marks++
	word := fmt.Sprintf("MARK.%d.", w.marks)
	to := fmt.Sprintf("%s:9", w.net.addr4(253)) // no host has it, and no ARP request asks for it
	Must(t, command("", "ip", "-n", w.net.key.namespace("switch"), "neigh", "replace", w.net.addr4(253).String(),
		"lladdr", "02:00:00:00:00:01", "dev", "br0"))
	Eventually(t, 20*time.Second, "the marker is in the capture", func() error {
		if err := inside(w.net.Namespace(), func() error { return shout(to, word) }); err != nil {
			return err
		}
		if !bytes.Contains(w.last(1<<20), []byte(word)) {
			return fmt.Errorf("no %s", word)
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
	end, _ := f.Seek(0, io.SeekEnd)
	buf := make([]byte, min(n, end))
	_, _ = f.ReadAt(buf, end-int64(len(buf)))
	return buf
}

// Recorded waits as Mark does and returns the bytes of the capture file that the
// calls before haven't returned.
func (w *Wire) Recorded(t testing.TB) []byte {
	t.Helper()
	w.Mark(t)
	f, err := os.Open(w.file)
	Must(t, err)
	defer f.Close()
	text, err := io.ReadAll(io.NewSectionReader(f, w.offset, 1<<40))
	Must(t, err)
	w.offset += int64(len(text))
	return text
}

// Times is how often a word is in the capture, anywhere in a frame.
func (w *Wire) Times(t testing.TB, word string) int {
	t.Helper()
	text, err := os.ReadFile(w.file)
	Must(t, err)
	return bytes.Count(text, []byte(word))
}

// Frames are tcpdump's lines about the captured frames that match a filter.
func (w *Wire) Frames(t testing.TB, filter string) []string {
	t.Helper()
	out, err := exec.Command("tcpdump", "-n", "-r", w.file, filter).Output()
	Must(t, err)
	text := strings.TrimSpace(string(out))
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}
