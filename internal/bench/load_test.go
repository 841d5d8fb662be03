// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The request and the reply of every HTTP load. wrk sends its own request, which
// ends in an empty line as well.
const (
	request = "GET / HTTP/1.1\r\nHost: bench\r\n\r\n"
	body    = "The quick brown fox jumps over the lazy dog.\n"
	reply   = "HTTP/1.1 200 OK\r\nContent-Length: 45\r\nContent-Type: text/plain\r\n\r\n" + body
)

// TestMain makes the test's own binary the programs that run on the hosts.
func TestMain(m *testing.M) {
	if len(os.Args) < 3 || os.Args[1] != "load" {
		os.Exit(m.Run())
	}
	programs := map[string]func(args []string) error{"serve": serve, "call": callLoad, "hold": hold}
	if err := programs[os.Args[2]](os.Args[3:]); err != nil {
		fmt.Fprintln(os.Stderr, os.Args[2]+":", err)
		os.Exit(1)
	}
}

// serve answers every request on an address, for as long as the client likes.
func serve(args []string) error {
	var plain net.ListenConfig
	plain.SetMultipathTCP(false)
	ln, err := plain.Listen(context.Background(), "tcp", args[0])
	for err == nil {
		var conn net.Conn
		if conn, err = ln.Accept(); err == nil {
			go answer(conn)
		}
	}
	return err
}

func answer(conn net.Conn) {
	defer conn.Close()
	buf := make([]byte, 4096)
	for used := 0; ; {
		n, err := conn.Read(buf[used:])
		if used += n; err != nil || used == len(buf) {
			return
		}
		if !strings.HasSuffix(string(buf[:used]), "\r\n\r\n") {
			continue
		}
		used = 0
		if _, err := io.WriteString(conn, reply); err != nil {
			return
		}
	}
}

// calls is what callLoad prints: times in microseconds.
type calls struct {
	Calls     int     `json:"calls"`
	Failed    int     `json:"failed"`
	LastError string  `json:"last_error,omitempty"`
	Seconds   float64 `json:"seconds"`
	Connect50 float64 `json:"connect_p50"`
	P50       float64 `json:"p50"`
	P99       float64 `json:"p99"`
}

// callLoad opens a connection for each request, some at a time, until their number
// or the seconds are reached: ADDRESS CALLS AT-ONCE SECONDS.
func callLoad(args []string) error {
	addr, err := netip.ParseAddrPort(args[0])
	if err != nil {
		return err
	}
	number, _ := strconv.Atoi(args[1])
	atOnce, _ := strconv.Atoi(args[2])
	seconds, err := strconv.ParseFloat(args[3], 64)
	if err != nil {
		return err
	}
	runtime.GOMAXPROCS(atOnce + 1) // a thread that waits in the kernel keeps its place: no rescheduling in the times
	begin := time.Now()
	all := make([]caller, atOnce)
	var wait sync.WaitGroup
	for i := range all {
		wait.Go(func() { all[i].run(addr, number/atOnce, begin.Add(time.Duration(seconds*float64(time.Second)))) })
	}
	wait.Wait()
	return json.NewEncoder(os.Stdout).Encode(summed(all, time.Since(begin)))
}

// caller makes one call after the other on a thread of its own.
type caller struct {
	connect, whole []float64 // microseconds
	failed         int
	err            error
}

func (c *caller) run(addr netip.AddrPort, number int, end time.Time) {
	runtime.LockOSThread()
	for range number {
		if time.Now().After(end) {
			return
		}
		if err := c.call(addr); err != nil {
			c.failed, c.err = c.failed+1, err
		}
	}
}

// call connects, asks, reads the reply and closes, by blocking system calls.
func (c *caller) call(addr netip.AddrPort) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	limit := unix.Timeval{Sec: 5}
	if err := errors.Join(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit), unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit)); err != nil {
		return err
	}
	begin := time.Now()
	to := &unix.SockaddrInet4{Addr: addr.Addr().As4(), Port: int(addr.Port())}
	if _, err := again(func() (int, error) { return 0, unix.Connect(fd, to) }); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	connected := time.Since(begin)
	if _, err := again(func() (int, error) { return unix.Write(fd, []byte(request)) }); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	var buf [256]byte
	for got := 0; got < len(reply); {
		n, err := again(func() (int, error) { return unix.Read(fd, buf[got:]) })
		if err != nil || n == 0 {
			return fmt.Errorf("read: %d bytes of %d, then %w", got, len(reply), cmp.Or(err, io.ErrUnexpectedEOF))
		}
		got += n
	}
	c.whole = append(c.whole, micros(time.Since(begin)))
	c.connect = append(c.connect, micros(connected))
	return nil
}

// again repeats a system call that the Go scheduler's signals interrupt; connect(2)
// then waits for the connection that it has begun.
func again(call func() (int, error)) (n int, err error) {
	for n, err = call(); errors.Is(err, unix.EINTR); n, err = call() {
	}
	return n, err
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

func summed(all []caller, took time.Duration) calls {
	var connect, whole []float64
	sum := calls{Seconds: took.Seconds()}
	for _, c := range all {
		connect, whole = append(connect, c.connect...), append(whole, c.whole...)
		sum.Failed += c.failed
		if c.err != nil {
			sum.LastError = c.err.Error()
		}
	}
	if sum.Calls = len(whole); sum.Calls > 0 {
		sum.Connect50, sum.P50, sum.P99 = Percentile(connect, 50), Percentile(whole, 50), Percentile(whole, 99)
	}
	return sum
}

// hold opens connections, has a reply on each, says so, and keeps them until its
// input ends: ADDRESS NUMBER.
func hold(args []string) error {
	number, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	for range number {
		conn, err := net.DialTimeout("tcp", args[0], 5*time.Second)
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, request); err != nil {
			return err
		}
		if _, err := io.ReadFull(conn, make([]byte, len(reply))); err != nil {
			return err
		}
	}
	fmt.Println("open")
	_, err = bufio.NewReader(os.Stdin).ReadByte()
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
