// SPDX-License-Identifier: Apache-2.0

package stall

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"tacit/internal/testhost"
)

const limit = 20 * time.Millisecond

// pair is a connection that is watched, and its other end.
func pair(t *testing.T) (*Conn, net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	testhost.Must(t, err)
	defer ln.Close()
	far, err := net.Dial("tcp", ln.Addr().String())
	testhost.Must(t, err)
	near, err := ln.Accept()
	testhost.Must(t, err)
	t.Cleanup(func() { _ = near.Close(); _ = far.Close() })
	return Watch(near.(*net.TCPConn)), far
}

// rec is a record with n bytes.
func rec(n int) []byte { return append([]byte{23, 3, 3, byte(n >> 8), byte(n)}, make([]byte, n)...) }

// TestStalled: a reader waits for the rest of a record, or of what is owed.
func TestStalled(t *testing.T) {
	whole := append(rec(3), rec(400)...)
	for _, c := range []struct {
		name    string
		sent    []byte
		owed    bool
		stalled bool
	}{
		{"nothing", nil, false, false},
		{"whole records", whole, false, false},
		{"an empty record", rec(0), false, false},
		{"a part of a header", append(whole, 23, 3), false, true},
		{"a header", rec(300)[:5], false, true},
		{"a part of a record", append(whole, rec(300)[:200]...), false, true},
		{"whole records that aren't all", whole, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			near, far := pair(t)
			near.Owe(c.owed)
			_, err := far.Write(c.sent)
			testhost.Must(t, err)
			begin := time.Now()
			go func() { _, _ = io.Copy(io.Discard, onlyReads{near}) }()
			testhost.Eventually(t, 5*time.Second, "a reader that waits", func() error {
				if since := near.waits.Load(); since == 0 || time.Since(near.born)-time.Duration(since) < limit {
					return errors.New("not yet")
				}
				return nil
			})
			if near.Stalled(limit) != c.stalled || near.Stalled(time.Since(begin)) {
				t.Errorf("stalled: %v", near.Stalled(limit))
			}
		})
	}
}

// onlyReads hides what a TCP connection could do besides.
type onlyReads struct{ io.Reader }

// TestNobodyReads: half a record that nobody waits for is no stall.
func TestNobodyReads(t *testing.T) {
	near, far := pair(t)
	_, err := far.Write(rec(300)[:200])
	testhost.Must(t, err)
	_, err = near.Read(make([]byte, 1000))
	testhost.Must(t, err)
	if !near.partial.Load() || near.Stalled(0) {
		t.Error("stalled without a reader")
	}
}

// FuzzRecord: however records are cut into reads, their ends are found.
func FuzzRecord(f *testing.F) {
	f.Add([]byte{5, 0, 255}, uint8(3))
	f.Fuzz(func(t *testing.T, sizes []byte, step uint8) {
		var all []byte
		ends := map[int]bool{0: true}
		for _, n := range sizes {
			all = append(all, rec(int(n))...)
			ends[len(all)] = true
		}
		var r record
		for at := 0; at < len(all); {
			n := min(1+int(step), len(all)-at)
			r.pass(all[at : at+n])
			if at += n; r.partial() == ends[at] {
				t.Fatalf("after %d bytes of %v: partial %v", at, sizes, r.partial())
			}
		}
	})
}
