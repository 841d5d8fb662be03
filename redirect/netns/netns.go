// SPDX-License-Identifier: Apache-2.0

// Package netns runs functions in another network namespace: sockets that they open
// there belong to it for good. It keeps nothing of a namespace between two calls, so
// it never outlives its last process, and must not know what it is entered for.
package netns

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Namespace is a network namespace. The zero value is the daemon's own.
type Namespace struct {
	Path string // a file by which it is entered, such as /proc/PID/ns/net
	ID   ID
}

// ID tells namespaces that exist at the same time apart.
type ID struct{ Dev, Ino uint64 }

// own is that of the calling thread.
const own = "/proc/thread-self/ns/net"

// ErrGone: another namespace is at the path now, or none.
var ErrGone = errors.New("the network namespace is gone")

// At returns the namespace that is at a path now.
func At(path string) (Namespace, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return Namespace{}, fmt.Errorf("network namespace %s: %w", path, err)
	}
	return Namespace{path, ID{st.Dev, st.Ino}}, nil
}

// Own returns the calling thread's.
func Own() (Namespace, error) { return At(own) }

// Do runs f on a thread that is in the namespace. f may call leave when it has
// opened its sockets, so that it doesn't keep the thread while it waits. In the zero
// Namespace it just runs f.
func (n Namespace) Do(f func(leave func() error) error) error {
	if n == (Namespace{}) {
		return f(func() error { return nil })
	}
	there, err := n.open()
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- n.do(there, f) }()
	return errors.Join(<-done, there.Close())
}

// do runs on a goroutine of its own: the thread ends with it where it can't leave.
func (n Namespace) do(there *os.File, f func(leave func() error) error) (err error) {
	runtime.LockOSThread()
	home, err := os.Open(own)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, home.Close()) }()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network namespace %s: %w; %s", n.Path, err, hint(err))
	}
	inside := true
	leave := func() error {
		if !inside {
			return nil
		}
		if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("leave network namespace %s: %w", n.Path, err)
		}
		inside = false
		runtime.UnlockOSThread()
		return nil
	}
	return errors.Join(f(leave), leave())
}

// hint says what to do about a namespace that can't be entered.
func hint(err error) string {
	if errors.Is(err, unix.EINVAL) {
		return "it is no network namespace for tacitd: the names of ip-netns(8) are mounts, so start tacitd where they are mounted, or give /proc/PID/ns/net"
	}
	return "tacitd needs CAP_SYS_ADMIN, also in the user namespace of the container"
}

func (n Namespace) open() (*os.File, error) {
	f, err := os.Open(n.Path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", n.Path, ErrGone)
	}
	if err != nil {
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || (ID{st.Dev, st.Ino}) != n.ID {
		return nil, errors.Join(fmt.Errorf("%s: %w", n.Path, ErrGone), err, f.Close())
	}
	return f, nil
}
