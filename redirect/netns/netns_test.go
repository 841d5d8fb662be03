// SPDX-License-Identifier: Apache-2.0

package netns_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tacit/internal/testhost"
	"tacit/redirect/netns"
)

// TestDo: f runs in the namespace until it leaves, and the caller never does.
func TestDo(t *testing.T) {
	host := testhost.NewNet(t).Host(t, "host")
	there, err := netns.At(host.Namespace())
	testhost.Must(t, err)
	before, err := netns.Own()
	testhost.Must(t, err)
	testhost.VerifyNone(t)
	for _, early := range []bool{false, true} {
		err := there.Do(func(leave func() error) error {
			if now, err := netns.Own(); err != nil || now.ID != there.ID {
				return fmt.Errorf("inside: %+v, %w", now, err)
			}
			if !early {
				return nil
			}
			if err := errors.Join(leave(), leave()); err != nil {
				return err
			}
			if now, err := netns.Own(); err != nil || now.ID != before.ID {
				return fmt.Errorf("left: %+v, %w", now, err)
			}
			return nil
		})
		if now, e := netns.Own(); err != nil || e != nil || now != before {
			t.Errorf("early %t: %v; the caller is in %+v, %v", early, err, now, e)
		}
	}
	var ln net.Listener
	testhost.Must(t, there.Do(func(func() error) (err error) {
		ln, err = net.Listen("tcp", host.Addr.String()+":5432")
		return err
	}))
	testhost.Must(t, ln.Close())
	want := errors.New("of f")
	if err := there.Do(func(func() error) error { return want }); !errors.Is(err, want) {
		t.Error(err)
	}
	var none netns.Namespace
	if err := none.Do(func(leave func() error) error { return errors.Join(want, leave()) }); !errors.Is(err, want) {
		t.Error(err)
	}
}

// TestGone: another file in the place of the namespace, or none, isn't entered.
func TestGone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "netns")
	testhost.WriteFile(t, path, "")
	at, err := netns.At(path)
	testhost.Must(t, err)
	enter := func() error { return at.Do(func(func() error) error { t.Error("entered"); return nil }) }
	if err := enter(); err == nil || !strings.Contains(err.Error(), "start tacitd where they are mounted") {
		t.Errorf("a file that is no namespace: %v", err)
	}
	testhost.WriteFile(t, path+".new", "")
	testhost.Must(t, os.Rename(path+".new", path))
	if err := enter(); !errors.Is(err, netns.ErrGone) {
		t.Errorf("replaced: %v", err)
	}
	testhost.Must(t, os.Remove(path))
	if err := enter(); !errors.Is(err, netns.ErrGone) {
		t.Errorf("removed: %v", err)
	}
	if _, err := netns.At(path); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
