// SPDX-License-Identifier: Apache-2.0

package node

import (
	"net"
	"strconv"
	"testing"
)

// TestTryGossipPort before anything is changed on the host; it leaves nothing open.
func TestTryGossipPort(t *testing.T) {
	n := newNode(t)
	ln := listening(t)
	port := uint16(ln.Addr().(*net.TCPAddr).Port)
	n.cfg.GossipPort = port
	inUse := "--gossip-port " + strconv.Itoa(int(port)) + ": the port is in use by another program; stop it (ss -lntp) or give another port"
	if err := tryGossipPort(t.Context(), n.cfg); err == nil || err.Error() != inUse {
		t.Errorf("TCP in use: %v", err)
	}
	_ = ln.Close()
	udp, err := net.ListenPacket("udp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := tryGossipPort(t.Context(), n.cfg); err == nil || err.Error() != inUse {
		t.Errorf("UDP in use: %v", err)
	}
	_ = udp.Close()
	for range 2 {
		if err := tryGossipPort(t.Context(), n.cfg); err != nil {
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
