// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"bufio"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestUsedForIPv4: an IPv6 socket that was connected to an IPv4 address can't send IPv6
// any more, so the call of an IPv4 address isn't led to ::1.
func TestUsedForIPv4(t *testing.T) {
	h := newSameNode(t, listening{local: "::1", sockets: [][2]string{{"serve", "[::1]:15432"}}}, "db")
	defer h.stop()
	if out := h.do("web", "again", "[::ffff:127.0.0.1]:8888", mapped); out != "ok "+mapped {
		t.Errorf("%s", out)
	}
	if who := h.taken(); who != "daemon" {
		t.Errorf("taken by %s", who)
	}
}

// TestGoneBeforeAccepted: the record of a caller is gone before the program's socket is
// made, which TCP_DEFER_ACCEPT delays here. The program doesn't see ::1.
func TestGoneBeforeAccepted(t *testing.T) {
	h := newHost(t)
	h.proxy()
	ln := h.listen("[::1]:15432")
	h.ok(unix.SetsockoptInt(fd(t, ln), unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 10))
	h.serve(db, 5432, Port{Local: netip.MustParseAddrPort("[::1]:15432"), Anyone: true})
	h.ok(h.Guards().Put(port15432, Guard{Service: db, Anyone: true}))
	h.allow(Pair{web, db})
	for _, gone := range []bool{false, true} {
		cmd := h.command("web", "late", db6)
		in, err := cmd.StdinPipe()
		h.ok(err)
		out, err := cmd.StdoutPipe()
		h.ok(err)
		h.ok(cmd.Start())
		if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ok "+db6+"\n" {
			t.Fatalf("%q, %v", line, err)
		}
		want := "[fd7a:ac17::1]"
		if gone {
			want = "[fd7a:ac17::]"
			var key meshOriginKey
			h.ok(h.mesh.Origins.NextKey(nil, &key))
			h.ok(h.mesh.Origins.Delete(key))
		}
		h.ok(in.Close())
		if peer := accept(t, ln).RemoteAddr().String(); !strings.HasPrefix(peer, want+":") {
			t.Errorf("gone %v: the program sees %s, want %s", gone, peer, want)
		}
		h.ok(cmd.Wait())
	}
}
