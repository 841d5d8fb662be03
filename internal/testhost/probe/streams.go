// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	greeting = "hello\n"        // what the accepting end says first, before it reads
	patience = 15 * time.Second // without a byte, a stream hangs
	shown    = 5                // errors, of all
	dialling = 64               // connections at once: each takes a thread meanwhile
)

// end is one end of a stream: no read or write on it waits longer than its
// patience; 0 is for ever.
type end struct {
	conn     *net.TCPConn
	patience time.Duration
	ctx      context.Context // done: the program is to end
	up       func()          // called once the stream does what it is for
}

func (e *end) Read(b []byte) (int, error) {
	if e.patience > 0 {
		_ = e.conn.SetReadDeadline(time.Now().Add(e.patience))
	}
	return e.conn.Read(b)
}

func (e *end) Write(b []byte) (int, error) {
	if e.patience > 0 {
		_ = e.conn.SetWriteDeadline(time.Now().Add(e.patience))
	}
	return e.conn.Write(b)
}

func (e *end) CloseWrite() error { return e.conn.CloseWrite() }

// reset ends the connection with RST.
func (e *end) reset() error { return errors.Join(e.conn.SetLinger(0), e.conn.Close()) }

// live lets reads and writes wait for ever, until the program is to end.
func (e *end) live() {
	e.patience = 0
	_ = e.conn.SetDeadline(time.Time{})
	context.AfterFunc(e.ctx, func() { _ = e.conn.SetDeadline(time.Unix(1, 0)) })
}

// streamsListen is the other end of streams: it greets each connection, then does
// what its first line says, and prints a line "OPERATION RESULT ERROR" at its end. SIGUSR1
// resets all connections.
func streamsListen(addr string) error {
	live := &liveEnds{ends: map[*end]bool{}}
	go live.resetOn(unix.SIGUSR1)
	return serve(addr, func(c *net.TCPConn) error {
		e := &end{conn: c, patience: 4 * patience, ctx: context.Background(), up: func() {}}
		live.put(e, true)
		defer live.put(e, false)
		name, err := answer(e)
		fmt.Println(name, result(err), err)
		return nil
	})
}

func answer(e *end) (name string, err error) {
	if _, err := io.WriteString(e, greeting); err != nil {
		return "greet", err
	}
	line, err := readLine(e)
	if err != nil {
		return "line", err
	}
	words := strings.Fields(line)
	op, arg, err := parse(words)
	if err != nil {
		return "line", err
	}
	return words[0], op.server(e, arg)
}

// liveEnds are the connections of a listener.
type liveEnds struct {
	mu   sync.Mutex
	ends map[*end]bool
}

func (l *liveEnds) put(e *end, there bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ends[e] = true; !there {
		delete(l.ends, e)
	}
}

func (l *liveEnds) resetOn(s os.Signal) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, s)
	for range c {
		l.mu.Lock()
		for e := range l.ends {
			_ = e.reset()
		}
		l.mu.Unlock()
	}
}

// streams makes COUNT connections at once and does an operation on each. It prints
// "open COUNT" once all do what they are for, and at the end a line "ended
// RESULT=COUNT … first=TIME last=TIME slowest=DURATION": when the first and the last
// one ended (microseconds since 1970), and how long (microseconds) the slowest took.
// SIGTERM ends operations that last for ever.
func streams(addr string, count int, words []string) error {
	op, arg, err := parse(words)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer stop()
	var up, done sync.WaitGroup
	up.Add(count)
	go func() { up.Wait(); fmt.Println("open", count) }()
	t, dials := tally{results: map[string]int{}}, make(chan struct{}, dialling)
	for i := range count {
		done.Go(func() {
			dials <- struct{}{}
			began, ready := time.Now(), sync.OnceFunc(up.Done)
			defer ready()
			c, err := conn(addr)
			<-dials
			if err == nil {
				defer c.Close()
				err = stream(&end{c, patience, ctx, ready}, op, arg, strings.Join(words, " ")+"\n", i%2 == 0)
			}
			t.add(began, err)
		})
	}
	done.Wait()
	return t.print()
}

// stream is the operation on one connection. It waits for the greeting before it
// says anything, or not.
func stream(e *end, op operation, arg []int64, line string, waits bool) error {
	if !waits {
		if _, err := io.WriteString(e, line); err != nil {
			return err
		}
	}
	if got, err := readLine(e); err != nil || got != greeting {
		return fmt.Errorf("greeted with %q: %w", got, err)
	}
	if waits {
		if _, err := io.WriteString(e, line); err != nil {
			return err
		}
	}
	return op.client(e, arg)
}

// readLine reads not a byte more.
func readLine(r io.Reader) (string, error) {
	var line []byte
	for one := make([]byte, 1); len(line) == 0 || line[len(line)-1] != '\n'; line = append(line, one[0]) {
		if _, err := io.ReadFull(r, one); err != nil {
			return string(line), err
		}
	}
	return string(line), nil
}

func parse(words []string) (operation, []int64, error) {
	if len(words) == 0 {
		return operation{}, nil, errors.New(usage)
	}
	op, ok := operations()[words[0]]
	if !ok {
		return op, nil, fmt.Errorf("no operation %q\n%s", words[0], usage)
	}
	arg := make([]int64, 2)
	for i, w := range words[1:min(3, len(words))] {
		n, err := strconv.ParseInt(w, 10, 64)
		if err != nil {
			return op, nil, err
		}
		arg[i] = n
	}
	return op, arg, nil
}

// result is how a stream ended, in a word.
func result(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, unix.ECONNRESET):
		return "reset"
	case errors.Is(err, unix.ECONNABORTED):
		return "aborted"
	case errors.Is(err, unix.EPIPE):
		return "broken"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "eof"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "hangs"
	}
	return "failed"
}

// tally is what came of streams.
type tally struct {
	mu          sync.Mutex
	results     map[string]int
	first, last time.Time
	slowest     time.Duration
	errs        []error
}

func (t *tally) add(began time.Time, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if t.last = now; t.first.IsZero() {
		t.first = now
	}
	t.slowest = max(t.slowest, now.Sub(began))
	t.results[result(err)]++
	if err != nil && len(t.errs) < shown {
		t.errs = append(t.errs, err)
	}
}

func (t *tally) print() error {
	out := bufio.NewWriter(os.Stdout)
	for _, err := range t.errs {
		fmt.Fprintln(out, "error:", err)
	}
	fmt.Fprint(out, "ended")
	for _, r := range slices.Sorted(maps.Keys(t.results)) {
		fmt.Fprintf(out, " %s=%d", r, t.results[r])
	}
	fmt.Fprintf(out, " first=%d last=%d slowest=%d\n", t.first.UnixMicro(), t.last.UnixMicro(), t.slowest.Microseconds())
	return out.Flush()
}
