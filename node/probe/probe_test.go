// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// asChild makes the test binary the probe's process.
const asChild = "serve-the-probe"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == asChild {
		if err := Serve(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// serve accepts connections and calls what with each.
func serve(t *testing.T, at string, talk func(net.Conn)) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { talk(conn); _ = conn.Close() }()
		}
	}()
	return netip.MustParseAddrPort(ln.Addr().String())
}

func says(text string) func(net.Conn) {
	return func(c net.Conn) { _, _ = io.WriteString(c, text) }
}

// waits sends nothing until the client closes.
func waits(c net.Conn) { _, _ = c.Read(make([]byte, 1)) }

// closed is an address on which no socket listens.
func closed(t *testing.T) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return netip.MustParseAddrPort(ln.Addr().String())
}

// TestTasks: the result of each kind with each behaviour of the other side.
func TestTasks(t *testing.T) {
	open, none := serve(t, "127.0.0.1:0", says("token")), closed(t)
	for _, tt := range []struct {
		name string
		task Task
		want string // in the error; "" is none
	}{
		{"refused", Task{Kind: Connect, To: none}, ""},
		{"refused by an IPv6 socket", Task{Kind: Connect, To: none, Mapped: true}, ""},
		{"let in", Task{Kind: Connect, To: open}, "connected to a virtual address of no service"},
		{"sent", Task{Kind: Send, To: none}, "sent a datagram to a virtual address"},
		{"captured", Task{Kind: Captured, To: open, Want: "token"}, ""},
		{"captured by an IPv6 socket", Task{Kind: Captured, To: open, Mapped: true, Want: "token"}, ""},
		{"captured over IPv6", Task{Kind: Captured, To: serve(t, "[::1]:0", says("token")), Want: "token"}, ""},
		{"captured by others", Task{Kind: Captured, To: open, Want: "other"}, "another server answered"},
		{"captured by others who say more", Task{Kind: Captured, To: open, Want: "tok"}, "another server answered"},
		{"not known", Task{Kind: Captured, To: serve(t, "127.0.0.1:0", waits), Want: "token"}, "didn't recognise the caller"},
		{"not captured", Task{Kind: Captured, To: none, Want: "token"}, "connect to the daemon through the mesh"},
		{"unheard of", Task{Kind: "dance"}, "unknown task"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			expect(t, tt.task.try(), tt.want)
		})
	}
}

func expect(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("got %v", err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("got %v, want %q in it", err, want)
	}
}

// answer returns a reply with one record, as name servers do.
func answer(query []byte, code byte, addr string) []byte {
	out := append([]byte(nil), query...)
	out[2], out[3] = 0x84, 0x80|code
	if addr == "" {
		return out
	}
	out[7] = 1
	a := netip.MustParseAddr(addr)
	out = append(out, 0xc0, headerSize) // the name: a pointer to the question
	out = append(out, query[len(query)-4:]...)
	out = append(out, 0, 0, 0, 0, 0, byte(a.BitLen()/8))
	return append(out, a.AsSlice()...)
}

// nameServer answers over UDP and TCP on one port.
func nameServer(t *testing.T, reply func(query []byte) []byte) netip.AddrPort {
	t.Helper()
	at := serve(t, "127.0.0.1:0", func(c net.Conn) {
		query := make([]byte, maxReply)
		if n, err := c.Read(query); err == nil && n > 2 {
			r := reply(query[2:n])
			_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(r))), r...))
		}
	})
	udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = udp.Close() })
	go func() {
		query := make([]byte, maxReply)
		for {
			n, from, err := udp.ReadFrom(query)
			if err != nil {
				return
			}
			if r := reply(query[:n]); r != nil {
				_, _ = udp.WriteTo(r, from)
			}
		}
	}()
	return at
}

// TestNames: only the daemon's answer passes.
func TestNames(t *testing.T) {
	for _, tt := range []struct {
		name  string
		reply func([]byte) []byte
		want  string
	}{
		{"the daemon's answer", func(q []byte) []byte { return answer(q, 0, "240.79.255.254") }, ""},
		{"a wildcard's", func(q []byte) []byte { return answer(q, 0, "192.0.2.1") }, "another server answered"},
		{"of another kind", func(q []byte) []byte { return answer(q, 0, "fd00::1") }, "another server answered"},
		{"no such name", func(q []byte) []byte { return answer(q, 3, "") }, "another server answered"},
		{"cut short", func(q []byte) []byte { return answer(q, 0, "240.79.255.254")[:len(q)+3] }, "another server answered"},
		{"one byte", func([]byte) []byte { return []byte{0} }, "another server answered"},
		{"none", func([]byte) []byte { return nil }, "no answer within"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			task := Task{Kind: Names, To: nameServer(t, tt.reply), Ask: "probe-1.mesh.", Want: "240.79.255.254"}
			expect(t, task.try(), tt.want)
			task.Mapped = true
			expect(t, task.try(), tt.want)
		})
	}
}

// TestProber: one process serves many rounds, in its own cgroup, and a new one is
// started after it has ended.
func TestProber(t *testing.T) {
	host := testhost.NewNet(t).Host(t, "host1")
	p := &Prober{Command: []string{"/proc/self/exe", asChild}, Cgroup: host.CgroupPath("probe")}
	defer p.Close()
	procs := func() string {
		text, err := os.ReadFile(filepath.Join(p.Cgroup, "cgroup.procs"))
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(text))
	}
	round := func() {
		t.Helper()
		said, err := p.Ask(t.Context(), []Task{{Name: "a", Kind: Connect, To: closed(t)}, {Name: "b", Kind: "dance"}})
		if err != nil || len(said) != 2 || said[0] != (Result{Name: "a"}) || said[1].Name != "b" || said[1].Err == "" {
			t.Errorf("%v, %v", said, err)
		}
	}
	round()
	first := procs()
	round()
	if now := procs(); first == "" || now != first {
		t.Errorf("processes %q, then %q", first, now)
	}
	p.child.kill()
	<-p.child.done
	if _, err := p.Ask(t.Context(), []Task{{}}); err == nil {
		t.Error("a process that has ended gave results")
	}
	round()
	if now := procs(); now == first {
		t.Errorf("process %s is still there", now)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	testhost.Eventually(t, 5*time.Second, "the process has gone", func() error {
		if left := procs(); left != "" {
			return fmt.Errorf("%s is left", left)
		}
		return nil
	})
	bad := &Prober{Command: []string{"/nowhere"}, Cgroup: p.Cgroup}
	if _, err := bad.Ask(t.Context(), nil); err == nil {
		t.Error("a program that isn't there was started")
	}
}
