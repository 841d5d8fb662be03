// SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
)

// TestTryPort before anything is changed on the host; it leaves nothing open.
func TestTryPort(t *testing.T) {
	ln := listening(t)
	at := netip.MustParseAddrPort(ln.Addr().String())
	if err := TryPort(t.Context(), at); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("TCP in use: %v", err)
	}
	_ = ln.Close()
	udp, err := net.ListenPacket("udp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := TryPort(t.Context(), at); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("UDP in use: %v", err)
	}
	_ = udp.Close()
	for range 2 {
		if err := TryPort(t.Context(), at); err != nil {
			t.Errorf("free: %v", err)
		}
	}
}

// listening is a listener on loopback.
func listening(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln
}
