// SPDX-License-Identifier: Apache-2.0

package soak

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	canary    = "CANARY."
	callLimit = 10 * time.Second // for each system call
)

// plan is what a caller does. It prints a line for each attempt: see attempt.
type plan struct {
	Name    string   // sent to the server as the caller's
	Targets []target // picked at random
	Count   int      // of answered connections; 0: until SIGTERM
	Rate    int      // attempts a second; 0: as fast as they go
	Workers int
	Ports   [2]int // half of the sockets are bound to one of these; 0: none are
	Seed    uint64
}

// target is one address of a service.
type target struct {
	Name   string
	Addr   netip.AddrPort
	V6Only bool // use an IPV6_V6ONLY socket, which can't have an IPv4 peer
	Weight int  // 0 is 1
}

// caller is a plan in progress.
type caller struct {
	plan
	bag           []int // indices of targets, by weight
	began         time.Time
	next          atomic.Int64 // attempts begun
	answered, ids atomic.Int64
	stopped       atomic.Bool
	lines         chan string
}

func call(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	c := &caller{began: time.Now(), lines: make(chan string, 1024)}
	if err := json.Unmarshal(text, &c.plan); err != nil {
		return err
	}
	for i, t := range c.Targets {
		for range max(t.Weight, 1) {
			c.bag = append(c.bag, i)
		}
	}
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, unix.SIGTERM)
	go func() { <-asked; c.stopped.Store(true) }()
	var wg sync.WaitGroup
	for i := range c.Workers {
		wg.Go(func() { c.work(rand.New(rand.NewPCG(c.Seed, uint64(i)))) })
	}
	go func() { wg.Wait(); close(c.lines) }()
	out := bufio.NewWriter(os.Stdout)
	for line := range c.lines {
		fmt.Fprintln(out, line)
		if len(c.lines) == 0 {
			out.Flush()
		}
	}
	fmt.Fprintln(out, "end")
	return out.Flush()
}

func (c *caller) work(r *rand.Rand) {
	for !c.stopped.Load() && (c.Count == 0 || c.answered.Load() < int64(c.Count)) {
		n := c.next.Add(1)
		if c.Rate > 0 {
			after(time.Until(c.began.Add(time.Duration(n) * time.Second / time.Duration(c.Rate))))
		}
		t := c.bag[r.IntN(len(c.bag))]
		a := attempt{target: t, start: time.Now(), id: fmt.Sprintf("%s.%d", c.Name, c.ids.Add(1))}
		a.result = c.try(r, &a)
		if a.result == "ok" {
			c.answered.Add(1)
		}
		c.lines <- a.line()
	}
}

// try makes one connection and returns "ok", or CALL:ERRNO. Where its own port is
// in use it tries another one.
func (c *caller) try(r *rand.Rand, a *attempt) string {
	for range 1000 {
		fd, err := c.open(r, c.Targets[a.target])
		if err == nil {
			began := time.Now()
			err = step("connect", connect(fd, sockaddr(c.Targets[a.target].Addr)))
			a.took = time.Since(began)
		}
		if fd >= 0 && err == nil {
			err = c.exchange(fd, a)
		}
		if fd >= 0 {
			unix.Close(fd)
		}
		if errors.Is(err, unix.EADDRINUSE) || errors.Is(err, unix.EADDRNOTAVAIL) {
			continue
		}
		if err != nil {
			return err.Error()
		}
		return "ok"
	}
	return "connect:NOPORT"
}

func (c *caller) open(r *rand.Rand, t target) (int, error) {
	family, local := unix.AF_INET6, netip.IPv6Loopback()
	if t.Addr.Addr().Is4() {
		family, local = unix.AF_INET, netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, step("socket", err)
	}
	limit := unix.NsecToTimeval(int64(callLimit))
	err = errors.Join(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
	if t.V6Only {
		err = errors.Join(err, unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1))
	}
	if n := c.Ports[1] - c.Ports[0]; err == nil && n > 0 && r.IntN(2) == 0 {
		err = unix.Bind(fd, sockaddr(netip.AddrPortFrom(local, uint16(c.Ports[0]+r.IntN(n)))))
	}
	return fd, step("socket", err)
}

// exchange sends the caller's name and port, and reads the answer. A third of the
// connections is closed first by the server, a third by the caller, and a third is
// reset, after which the port is free at once.
func (c *caller) exchange(fd int, a *attempt) error {
	a.port = portOf(fd)
	end := string("scr"[int(a.port)%3])
	if _, err := unix.Write(fd, []byte(canary+a.id+" "+c.Name+" "+fmt.Sprint(a.port)+" "+end+"\n")); err != nil {
		return step("write", err)
	}
	answer := make([]byte, 16)
	for got := 0; got < 3; {
		n, err := read(fd, answer[got:])
		if err != nil {
			return err
		}
		got += n
	}
	switch end {
	case "s":
		_, _ = read(fd, answer)
	case "r":
		_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
	return nil
}

// connect waits on where one of the Go runtime's signals interrupts it.
func connect(fd int, to unix.Sockaddr) error {
	err := unix.Connect(fd, to)
	if !errors.Is(err, unix.EINTR) {
		return err
	}
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, int(callLimit.Milliseconds()))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			return errors.Join(err, unix.ETIMEDOUT)
		}
		code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && code != 0 {
			err = unix.Errno(code)
		}
		return err
	}
}

func read(fd int, into []byte) (int, error) {
	for {
		n, err := unix.Read(fd, into)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, step("read", err)
		case n == 0:
			return 0, errors.New("read:CLOSED")
		default:
			return n, nil
		}
	}
}

func portOf(fd int) uint16 {
	at, _ := unix.Getsockname(fd)
	switch at := at.(type) {
	case *unix.SockaddrInet4:
		return uint16(at.Port)
	case *unix.SockaddrInet6:
		return uint16(at.Port)
	}
	return 0
}

func sockaddr(at netip.AddrPort) unix.Sockaddr {
	if at.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: at.Addr().As4(), Port: int(at.Port())}
	}
	return &unix.SockaddrInet6{Addr: at.Addr().As16(), Port: int(at.Port())}
}

// failure is a system call that failed.
type failure struct {
	call string
	err  error
}

func (f failure) Error() string {
	var errno unix.Errno
	if errors.As(f.err, &errno) {
		return f.call + ":" + unix.ErrnoName(errno)
	}
	return f.call + ":" + strings.ReplaceAll(f.err.Error(), " ", "_")
}

func (f failure) Unwrap() error { return f.err }

func step(call string, err error) error {
	if err == nil {
		return nil
	}
	return failure{call, err}
}
