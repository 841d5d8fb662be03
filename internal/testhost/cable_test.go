// SPDX-License-Identifier: Apache-2.0

package testhost_test

import (
	"net"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// TestCable: a bad cable delays, loses and takes small packets only, until it is
// replaced; an unplugged one carries nothing.
func TestCable(t *testing.T) {
	testhost.VerifyNone(t)
	hosts := testhost.NewNet(t)
	a, b := hosts.Host(t, "host1"), hosts.Host(t, "host2")
	in, err := b.ListenPacket("udp4", b.Addr.String()+":9")
	testhost.Must(t, err)
	defer in.Close()
	out, err := a.Dial("udp4", b.Addr.String()+":9")
	testhost.Must(t, err)
	defer out.Close()
	arrives := func(sizes ...int) int {
		for _, n := range sizes {
			_, err := out.Write(make([]byte, n))
			testhost.Must(t, err)
		}
		return received(in)
	}
	if n := arrives(1000); n != 1000 {
		t.Fatalf("a good cable: %d of 1000 bytes", n)
	}
	restore := b.Replace(t, testhost.Cable{MTU: 1280, Delay: 30 * time.Millisecond})
	began := time.Now()
	if n := arrives(1400, 1253, 1252); n != 1252 || time.Since(began) < 30*time.Millisecond {
		t.Errorf("the first that arrives has %d bytes, after %s", n, time.Since(began))
	}
	restore()
	restore = b.Replace(t, testhost.Cable{Loss: 1})
	if n := arrives(1000); n != 0 {
		t.Errorf("%d bytes arrive where all is lost", n)
	}
	restore()
	b.Unplug(t)
	if n := arrives(1000); n != 0 {
		t.Errorf("%d bytes arrive over no cable", n)
	}
	b.Plug(t)
	testhost.Eventually(t, 5*time.Second, "the cable carries again", func() error {
		if arrives(1000) != 1000 {
			return net.ErrClosed
		}
		return nil
	})
}

// received is the size of the next datagram, 0 if none comes.
func received(in net.PacketConn) int {
	_ = in.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
	n, _, _ := in.ReadFrom(make([]byte, 2000))
	return n
}
