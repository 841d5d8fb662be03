// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"tacit/internal/testhost"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestResolvers(t *testing.T) {
	tests := []struct{ name, file, want string }{
		{"plain", "# c\nnameserver 10.0.0.1\nnameserver\t10.0.0.2 # x\nnameserver 10.0.0.1\n", "[10.0.0.1 10.0.0.2] []"},
		{"v6", "nameserver fe80::1%eth0\nnameserver ::1", "[fe80::1%eth0 ::1] []"},
		{"search", "domain old.example\nsearch Corp.Example. . b..c lan\nnameserver 1.1.1.1\n", "[1.1.1.1] [corp.example lan]"},
		{"domain last", "search a b\ndomain c\n", "[127.0.0.1] [c]"},
		{"junk", "nameserver\nnameserver x\n;nameserver 9.9.9.9\noptions ndots:5\n", "[127.0.0.1] []"},
		{"empty", "", "[127.0.0.1] []"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "resolv.conf")
			write(t, path, tt.file)
			addrs, search, err := Resolvers(path)
			if got := fmt.Sprint(addrs, search); err != nil || got != tt.want {
				t.Errorf("got %s, %v; want %s", got, err, tt.want)
			}
		})
	}
	if _, _, err := Resolvers(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func TestWatch(t *testing.T) {
	testhost.VerifyNone(t)
	etc, run := t.TempDir(), t.TempDir()
	path, real := filepath.Join(etc, "resolv.conf"), filepath.Join(run, "stub.conf")
	write(t, path, "one")
	changes := make(chan struct{}, 16)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Watch(ctx, path, func() { changes <- struct{}{} }) }()
	wait := func(step string) {
		t.Helper()
		select {
		case <-changes:
		case err := <-done:
			t.Fatalf("%s: ended: %v", step, err)
		case <-time.After(5 * time.Second):
			t.Fatalf("%s: not seen", step)
		}
	}
	wait("start")
	write(t, path, "two")
	wait("written in place")
	write(t, path+".new", "three")
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	wait("renamed over")
	write(t, real, "four")
	if err := errors.Join(os.Remove(path), os.Symlink(real, path)); err != nil {
		t.Fatal(err)
	}
	wait("became a link")
	write(t, real+".new", "five")
	if err := os.Rename(real+".new", real); err != nil {
		t.Fatal(err)
	}
	wait("target renamed over")
	write(t, filepath.Join(etc, "hosts"), "other")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	wait("removed")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if len(changes) > 1 { // removing and linking may be two changes
		t.Errorf("%d changes too many", len(changes))
	}
	if err := Watch(t.Context(), filepath.Join(etc, "none", "x"), func() {}); err == nil {
		t.Error("a missing folder was accepted")
	}
}
