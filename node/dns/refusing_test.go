// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// TestRefusingUpstream: once one query finds the port of an upstream closed, those that
// wait for it fail at once, the next ones too, and a moment later it is asked again.
func TestRefusingUpstream(t *testing.T) {
	up, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	at := up.LocalAddr().(*net.UDPAddr)
	s := testServer()
	s.timeout = time.Minute // whatever waits for it fails the test
	ask := func() int {
		reply, err := s.Exchange(t.Context(), query("example.org.", dns.TypeA), "udp", netip.MustParseAddrPort(at.String()))
		if err != nil {
			t.Error(err)
			return -1
		}
		return int(reply[3] & 15)
	}
	waiting := make(chan int)
	go func() { waiting <- ask() }()
	if _, _, err := up.ReadFrom(make([]byte, 512)); err != nil { // it is on its way, and never answered
		t.Fatal(err)
	}
	if err := up.Close(); err != nil {
		t.Fatal(err)
	}
	if code := ask(); code != dns.RcodeServerFailure {
		t.Errorf("refused: code %d", code)
	}
	if code := <-waiting; code != dns.RcodeServerFailure {
		t.Errorf("waiting: code %d", code)
	}
	if up, err = net.ListenUDP("udp", at); err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	go func() {
		buf := make([]byte, 512)
		for {
			n, from, err := up.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = up.WriteTo(replyTo(buf[:n]), from)
		}
	}()
	began := time.Now()
	for code := ask(); code != dns.RcodeSuccess; code = ask() {
		if time.Since(began) > 10*time.Second {
			t.Fatalf("10 s after the resolver came back: code %d", code)
		}
	}
}
