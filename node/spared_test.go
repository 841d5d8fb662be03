// SPDX-License-Identifier: Apache-2.0

package node

import (
	"net"
	"os"
	"testing"
	"time"

	"tacit/redirect/sockdiag"

	"tacit/internal/testhost"
	"tacit/node/store"
)

// TestSparedConnections: they are kept over a restart, and no longer than they
// live; the session of a process is found by its sockets.
func TestSparedConnections(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	conns, err := sockdiag.EstablishedOn(portOf(ln))
	if err != nil || len(conns) != 1 || conns[0].Remote.String() != client.LocalAddr().String() || conns[0].Cookie == 0 {
		t.Fatalf("%+v, %v", conns, err)
	}
	if found := sessionOf(os.Getpid(), conns); len(found) != 1 {
		t.Errorf("this process holds it, and has no session: %v", found)
	}
	if found := sessionOf(1, conns); len(found) != 0 {
		t.Errorf("the first process has a session: %v", found)
	}

	dir := t.TempDir()
	for i, again := range []bool{false, true} {
		st, err := store.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		n := &Node{store: st}
		if err := n.loadSessions(); err != nil {
			t.Fatal(err)
		}
		if !again {
			if err := n.spare(conns); err != nil {
				t.Fatal(err)
			}
		}
		if got := n.spared(); len(got) != 1 || got[0].Remote != conns[0].Remote || got[0].Local != conns[0].Local {
			t.Errorf("daemon %d: %v", i+1, got)
		}
		if again {
			_, _ = client.Close(), server.Close()
			testhost.Eventually(t, 5*time.Second, "it is forgotten", func() error {
				if got := n.spared(); len(got) > 0 {
					return os.ErrExist
				}
				return nil
			})
		}
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
