// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"tacit/internal/testhost"

	"github.com/miekg/dns"
)

// logTo is a log whose lines go to a channel.
type logTo chan string

func (l logTo) Write(line []byte) (int, error) {
	l <- string(line)
	return len(line), nil
}

// TestDestroyedListener: while the TCP listener no longer listens, as after ss -K,
// UDP is served, until the owner of both ends ctx.
func TestDestroyedListener(t *testing.T) {
	testhost.VerifyNone(t)
	udp, tcp := sockets(t)
	s, lines := testServer(), make(logTo, 1)
	s.log = slog.New(slog.NewTextHandler(lines, nil))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, udp, tcp, netip.MustParseAddrPort("127.0.0.1:9")) }()
	raw, err := tcp.(*net.TCPListener).SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { err = syscall.Shutdown(int(fd), syscall.SHUT_RDWR) })
	}
	if err != nil {
		t.Fatal(err)
	}
	if line := <-lines; !strings.Contains(line, "waits for a new listener") {
		t.Error(line)
	}
	var m dns.Msg
	if err := m.Unpack(ask(t, "udp", udp.LocalAddr().String(), query("db.", dns.TypeA))); err != nil || !m.Authoritative {
		t.Errorf("over UDP: %v, %v", m, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Serve: %v", err)
	}
}
