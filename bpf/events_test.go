// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"
)

// TestLostEvents: what the ring buffer has no room for is counted as lost.
func TestLostEvents(t *testing.T) {
	h := newHost(t)
	c, err := net.ListenUDP("udp4", nil)
	h.ok(err)
	defer c.Close()
	const sent = 5000
	for range sent {
		_, err := c.WriteToUDPAddrPort([]byte("x"), netip.MustParseAddrPort("240.64.0.9:9"))
		h.ok(err)
	}
	n, err := h.Counters()
	h.ok(err)
	if n[UDP].Given != sent || n[UDP].Lost == 0 || n[UDP].Lost >= sent {
		t.Fatalf("%+v, want %d and some of them lost", n[UDP], sent)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	told := uint64(0)
	h.ok(h.Events(ctx, func(e Event) {
		if e.Client.Port() != c.LocalAddr().(*net.UDPAddr).AddrPort().Port() || e.Pair.Destination != 9 {
			t.Errorf("%+v", e)
		}
		if told++; told == sent-n[UDP].Lost {
			cancel()
		}
	}))
	if told != sent-n[UDP].Lost {
		t.Errorf("%d events, %d lost, of %d", told, n[UDP].Lost, sent)
	}
}
