// SPDX-License-Identifier: Apache-2.0

package headroom

import (
	"context"
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"
)

func TestKept(t *testing.T) {
	for limit, want := range map[uint64]uint64{0: 0, 3: 0, 16: 4, 256: 64, 1024: 256, 1 << 20: 256} {
		if got := Kept(limit); got != want {
			t.Errorf("of %d descriptors %d are kept, want %d", limit, got, want)
		}
	}
}

// TestAdmission: by the number of the descriptor, which is the number of those that are
// open, and by the memory; lanes may have half of what is kept.
func TestAdmission(t *testing.T) {
	var memory error
	h := New(func() error { return memory })
	full := syscall.ENOMEM
	for _, c := range []struct {
		name             string
		limit            uint64
		memory           error
		fd               int
		connection, lane error
	}{
		{"the last one of a connection", 256, nil, 191, nil, nil},
		{"kept for lanes", 256, nil, 192, syscall.EMFILE, nil},
		{"the last one of a lane", 256, nil, 223, syscall.EMFILE, nil},
		{"kept for the rest", 256, nil, 224, syscall.EMFILE, syscall.EMFILE},
		{"the limit was raised", 1024, nil, 224, nil, nil},
		{"the limit was lowered below what is open", 16, nil, 20, syscall.EMFILE, syscall.EMFILE},
		{"no limit is known", 0, nil, 5, syscall.EMFILE, syscall.EMFILE},
		{"no memory", 256, full, 20, full, full},
	} {
		t.Run(c.name, func(t *testing.T) {
			memory = c.memory
			h.limit = func() uint64 { return c.limit }
			before, want := h.Refused(), uint64(0)
			for _, one := range []struct {
				got, want error
			}{{h.Connection(c.fd), c.connection}, {h.Lane(c.fd), c.lane}} {
				if !errors.Is(one.got, one.want) || (one.got == nil) != (one.want == nil) {
					t.Errorf("descriptor %d: %v, want %v", c.fd, one.got, one.want)
				}
				if one.want != nil {
					want++
				}
			}
			if got := h.Refused() - before; got != want {
				t.Errorf("%d are counted as refused, want %d", got, want)
			}
		})
	}
}

// TestConnections: a connection is asked for after it was made, and a socket before it
// connects.
func TestConnections(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	h := New(func() error { return nil })
	dial := net.Dialer{Control: Control(h.Lane)}
	conn, err := dial.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := Of(conn.(*net.TCPConn), h.Connection); err != nil {
		t.Error(err)
	}
	h.limit = func() uint64 { return 4 }
	if err := Of(conn.(*net.TCPConn), h.Connection); !errors.Is(err, syscall.EMFILE) || !strings.Contains(err.Error(), "LimitNOFILE") {
		t.Errorf("%v", err)
	}
	if _, err := dial.DialContext(context.Background(), "tcp", ln.Addr().String()); !errors.Is(err, syscall.EMFILE) {
		t.Errorf("dialled: %v", err)
	}
	var none *Headroom
	if err := Of(conn.(*net.TCPConn), none.Connection); err != nil {
		t.Error(err)
	}
}

// TestShare: the streams of one other node leave descriptors for others, and need not for
// 10,000 connections where 20,000 descriptors are allowed.
func TestShare(t *testing.T) {
	for limit, want := range map[uint64]int{256: 144, 4096: 2880, 20_000: 14_808} {
		h := New(func() error { return nil })
		h.limit = func() uint64 { return limit }
		if got := h.Share(); got != want {
			t.Errorf("%d of %d, want %d", got, limit, want)
		}
	}
	if none := (*Headroom)(nil); none.Share() < 1<<30 {
		t.Error("without a headroom there is a limit")
	}
}
