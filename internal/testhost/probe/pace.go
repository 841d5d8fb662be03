// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

const (
	paceConnects = 2000
	paceBytes    = 64
)

// paceListen echoes what each of its connections sends, one after the other, by plain
// system calls, so that nothing hides what a connection costs.
func paceListen(addr string) error {
	family, at, err := target(addr)
	if err != nil {
		return err
	}
	ln, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return named("socket", err)
	}
	if err := errors.Join(unix.SetsockoptInt(ln, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.Bind(ln, at), unix.Listen(ln, 1024)); err != nil {
		return named("listen", err)
	}
	for buf := make([]byte, paceBytes); ; {
		fd, _, err := unix.Accept(ln)
		if err != nil {
			return named("accept", err)
		}
		for {
			n, err := unix.Read(fd, buf)
			if err != nil || n == 0 {
				break
			}
			if _, err := unix.Write(fd, buf[:n]); err != nil {
				break
			}
		}
		_ = unix.Close(fd)
	}
}

// pace prints how many calls a second one connection makes, and the median time of
// connect(2) in nanoseconds.
func pace(addr string, seconds int64) error {
	calls, err := paceCalls(addr, time.Duration(seconds)*time.Second)
	if err != nil {
		return err
	}
	took := make([]time.Duration, paceConnects)
	for i := range took {
		if took[i], err = paceConnect(addr); err != nil {
			return err
		}
	}
	slices.Sort(took)
	fmt.Printf("%d %d\n", calls/seconds, took[len(took)/2].Nanoseconds())
	return nil
}

func paceCalls(addr string, limit time.Duration) (calls int64, err error) {
	fd, err := dial("plain", addr)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	buf := make([]byte, paceBytes)
	for end := time.Now().Add(limit); time.Now().Before(end); calls++ {
		if _, err := unix.Write(fd, buf); err != nil {
			return 0, named("write", err)
		}
		if n, err := unix.Read(fd, buf); err != nil || n != len(buf) {
			return 0, fmt.Errorf("%d bytes came back: %w", n, err)
		}
	}
	return calls, nil
}

// paceConnect ends the connection by a reset, which leaves no TIME_WAIT.
func paceConnect(addr string) (time.Duration, error) {
	family, at, err := target(addr)
	if err != nil {
		return 0, err
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, named("socket", err)
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err != nil {
		return 0, named("SO_LINGER", err)
	}
	began := time.Now()
	if err := unix.Connect(fd, at); err != nil {
		return 0, named("connect", err)
	}
	return time.Since(began), nil
}
