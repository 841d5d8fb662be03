// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"net"
	"os"
	"testing"
	"time"

	"tacit/internal/testhost"
	"tacit/node/config"
	"tacit/node/workload"
	"tacit/redirect/sockdiag"
)

// connect makes a connection to a listener.
func connect(t *testing.T, ln net.Listener) (client, server net.Conn) {
	t.Helper()
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	if server, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	return client, server
}

// TestExempt: exempt connections are kept over a restart, and no longer than
// they live.
func TestExempt(t *testing.T) {
	h := newHost(t, config.Exclude{})
	client, server := connect(t, h.listen(7003))
	conns, err := sockdiag.EstablishedOn(7003)
	if err != nil || len(conns) != 1 {
		t.Fatalf("%+v, %v", conns, err)
	}
	for range 2 { // once is enough
		if err := h.Exempt(conns); err != nil {
			t.Fatal(err)
		}
	}
	for _, daemon := range []string{"first", "second"} {
		if v, _ := h.Look(); len(v.ExemptPeers) != 1 || v.ExemptPeers[0].String() != client.LocalAddr().String() {
			t.Errorf("%s daemon: %v", daemon, v.ExemptPeers)
		}
		h.Keep()
		h.reopen(config.Exclude{})
	}
	h.Look()
	_, _ = client.Close(), server.Close()
	testhost.Eventually(t, 5*time.Second, "it is forgotten", func() error {
		if v, _ := h.Look(); len(v.ExemptPeers) > 0 {
			return os.ErrExist
		}
		return nil
	})
	h.Keep()
	if text, err := h.store.Get(settingExempt); err != nil || string(text) != "[]" {
		t.Errorf("on disk: %s, %v", text, err)
	}
}

// TestPlainClients: connections of the mesh and the caller's own session are
// told from the others.
func TestPlainClients(t *testing.T) {
	h := newHost(t, config.Exclude{})
	ln := h.listen(7004)
	connect(t, ln)
	for _, c := range []struct {
		name       string
		pid        int
		plain, own int
	}{
		{"nobody asks", 0, 1, 0},
		{"the holder asks", os.Getpid(), 0, 1},
		{"another process asks", 1, 1, 0},
	} {
		plain, own, err := h.PlainClients(7004, c.pid)
		if err != nil || len(plain) != c.plain || len(own) != c.own {
			t.Errorf("%s: plain %v, own %v, %v", c.name, plain, own, err)
		}
	}
	if plain, own, err := h.PlainClients(0, os.Getpid()); plain != nil || own != nil || err != nil {
		t.Errorf("without a port: %v, %v, %v", plain, own, err)
	}
	// The client's socket was made in this process's cgroup: let that be a workload.
	at, err := workload.Own()
	if err != nil {
		t.Fatal(err)
	}
	id, err := workload.ID(at)
	if err != nil {
		t.Fatal(err)
	}
	h.view.Store(&View{Services: []Service{{Cgroups: []workload.Cgroup{{Path: at, ID: id}}}}})
	if plain, _, err := h.PlainClients(7004, 0); err != nil || len(plain) > 0 {
		t.Errorf("from a workload: %v, %v", plain, err)
	}
}

// TestOpenRefuses: a state that can't be read isn't forgotten.
func TestOpenRefuses(t *testing.T) {
	for _, name := range []string{settingFiles, settingHeld, settingExempt} {
		h := newHost(t, config.Exclude{})
		if err := h.store.Set(name, []byte("{]")); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(h.conf); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
	h := newHost(t, config.Exclude{})
	h.conf.Settings.ServicesDir = "/dev/null"
	if _, err := Open(h.conf); err == nil {
		t.Error("a folder that is a file: opened")
	}
}
