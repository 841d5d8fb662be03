// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestListen(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "s")
	old, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(socket); !errors.Is(err, ErrInUse) {
		t.Errorf("another listener on the socket: %v", err)
	}
	old.SetUnlinkOnClose(false)
	if err := old.Close(); err != nil { // as after a crash
		t.Fatal(err)
	}
	if err := errors.Join(os.Mkdir(staging(socket), 0o700), os.WriteFile(filepath.Join(staging(socket), "s"), nil, 0o600)); err != nil { // as after a crash during Listen
		t.Fatal(err)
	}
	ln, err := Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(socket)
	if err != nil {
		t.Fatal(err)
	}
	want := fs.FileMode(0o600)
	if groupID() >= 0 {
		want = 0o660
	}
	if st.Mode().Perm() != want {
		t.Errorf("mode %v, want %v", st.Mode().Perm(), want)
	}
	if err := ln.Close(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if err := os.WriteFile(socket, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(socket); err == nil || !strings.Contains(err.Error(), "exists and is not a socket; remove it") {
		t.Errorf("a file was taken for a socket: %v", err)
	}
}

// TestRemove: it removes what a killed daemon left behind; a missing socket is no
// error.
func TestRemove(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "s")
	for _, path := range []string{socket, filepath.Join(staging(socket), "s")} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := Remove(socket); err != nil {
			t.Error(err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	}
}

func TestUnreachable(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "missing")
	_, err := NewClient(missing).Status(t.Context())
	if want := "cannot reach tacitd at " + missing + ": is it running? start it with: systemctl start tacitd"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := NewClient(missing).Status(ctx); err == nil || err.Error() != "interrupted" {
		t.Errorf("got %v", err)
	}
}
