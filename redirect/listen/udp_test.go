// SPDX-License-Identifier: Apache-2.0

package listen_test

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"tacit/internal/testhost"
	"tacit/redirect/listen"
)

const patience = 3 * time.Second

// TestTransparentUDPLeavesPort53: a DNS server can bind port 53 on every address of this host, and an answer with the source
// port 53 is sent all the same.
func TestTransparentUDPLeavesPort53(t *testing.T) {
	host := testhost.NewNet(t).Host(t, "host")
	var udp *listen.TransparentUDP
	testhost.Must(t, host.Do(func() (err error) { udp, err = listen.NewTransparentUDP(t.Context(), false); return err }))
	defer udp.Close()
	client, err := host.ListenPacket("udp4", "127.0.0.1:0")
	testhost.Must(t, err)
	defer client.Close()
	server, err := host.ListenPacket("udp4", "0.0.0.0:53")
	testhost.Must(t, err)
	defer server.Close()
	to := client.LocalAddr().(*net.UDPAddr).AddrPort()
	testhost.Must(t, udp.WriteFrom([]byte("answer"), netip.MustParseAddrPort("192.0.2.53:53"), to))
	testhost.Must(t, client.SetReadDeadline(time.Now().Add(patience)))
	b := make([]byte, 16)
	n, from, err := client.ReadFrom(b)
	if err != nil || string(b[:n]) != "answer" || from.String() != "192.0.2.53:53" {
		t.Errorf("read %q from %v, %v", b[:n], from, err)
	}
	if err := udp.WriteFrom(nil, netip.MustParseAddrPort("[::1]:53"), to); err == nil {
		t.Error("mixed families were sent")
	}
	testhost.Must(t, udp.Close())
	if _, _, _, err := udp.ReadFrom(b); !errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) {
		t.Errorf("read after close = %v", err)
	}
}
