// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

const (
	chunk  = 64 << 10
	drop   = 1 << 10               // of a trickle
	pause  = 20 * time.Millisecond // between drops
	little = 100                   // bytes of a ping
)

// operation is what the two ends of a stream do. An error is how it ended too soon.
type operation struct {
	client, server func(e *end, arg []int64) error
}

func operations() map[string]operation {
	return map[string]operation{
		"bytes":        {swap, swap},                    // N: random bytes both ways at once, compared by SHA-256
		"half":         {askAndEnd, answerAtEnd},        // N: bytes and FIN; then they come back
		"half-back":    {askAfterEnd, endAndRead},       // N: FIN comes, then the bytes go
		"server-reset": {wantReset, resetAfterByte},     // the accepting end resets
		"client-reset": {resetAfterByte, wantReset},     // the other one does
		"get":          {fetch, supply},                 // N MS: N bytes come; nothing is read for MS before
		"put":          {supplyAndWait, fetchAndAnswer}, // N MS: the same the other way
		"oob":          {outOfBand, outOfBand},          // N: bytes both ways, every tenth one sent as urgent; all are read in their order
		"ping":         {pings, echoes},                 // N: so many small questions, one after the other
		"talk":         {talk, echoes},                  // a question every 100 ms, until SIGTERM
		"hold":         {hold, echoes},                  // one question; then nothing, until SIGTERM
		"trickle":      {readOn, dribble},               // a little comes again and again, until SIGTERM
		"flood":        {readOn, pour},                  // as much as can be comes, until SIGTERM
		"pour":         {pour, readOn},                  // the same the other way
		"sip":          {paced(drop, pause), pour},      // a flood of which little is read, until SIGTERM
		"gulp":         {paced(chunk, pause/10), pour},  // a flood that is read as it comes, but for pauses, until SIGTERM
	}
}

func swap(e *end, arg []int64) error { return exchange(e, arg[0]) }

// bytesOf are n bytes that both ends know.
func bytesOf(n int64) io.Reader { return io.LimitReader(rand.NewChaCha8([32]byte{1}), n) }

// same reads n bytes, which must be those of bytesOf.
func same(r io.Reader, n int64) error {
	want := bytesOf(n)
	got, wanted := make([]byte, chunk), make([]byte, chunk)
	for left := n; left > 0; {
		size := min(left, chunk)
		if _, err := io.ReadFull(r, got[:size]); err != nil {
			return fmt.Errorf("after %d of %d bytes: %w", n-left, n, err)
		}
		if _, err := io.ReadFull(want, wanted[:size]); err != nil {
			return err
		}
		if !bytes.Equal(got[:size], wanted[:size]) {
			return fmt.Errorf("bytes differ after %d", n-left)
		}
		left -= size
	}
	return nil
}

// noMore reads the end of file.
func noMore(r io.Reader) error {
	n, err := r.Read(make([]byte, 1))
	if n > 0 || err == nil {
		return errors.New("more bytes than were sent")
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func fill(e *end, n int64) error {
	if _, err := io.CopyBuffer(struct{ io.Writer }{e}, bytesOf(n), make([]byte, chunk)); err != nil {
		return err
	}
	return e.CloseWrite()
}

func askAndEnd(e *end, arg []int64) error {
	if err := fill(e, arg[0]); err != nil {
		return err
	}
	return fetch(e, []int64{arg[0], 0})
}

func answerAtEnd(e *end, arg []int64) error {
	if err := errors.Join(same(e, arg[0]), noMore(e)); err != nil {
		return err
	}
	return fill(e, arg[0])
}

func askAfterEnd(e *end, arg []int64) error {
	if err := noMore(e); err != nil {
		return err
	}
	return fill(e, arg[0])
}

func endAndRead(e *end, arg []int64) error {
	if err := e.CloseWrite(); err != nil {
		return err
	}
	return fetch(e, []int64{arg[0], 0})
}

// resetAfterByte resets when the other end waits for more.
func resetAfterByte(e *end, _ []int64) error {
	if _, err := io.ReadFull(e, make([]byte, 1)); err != nil {
		return err
	}
	return e.reset()
}

func wantReset(e *end, _ []int64) error {
	if _, err := e.Write([]byte("x")); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, e)
	if result(err) == "reset" {
		return nil
	}
	return fmt.Errorf("instead of a reset: %w", errors.Join(err, endOf(err)))
}

// endOf is io.EOF where io.Copy has none.
func endOf(err error) error {
	if err == nil {
		return io.EOF
	}
	return nil
}

// outOfBand is the same at both ends.
func outOfBand(e *end, arg []int64) error {
	raw, err := e.conn.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_OOBINLINE, 1) })
	}
	for range arg[0] {
		_, err1 := e.Write([]byte("before"))
		err2 := raw.Control(func(fd uintptr) { err = cmp.Or(err, unix.Sendto(int(fd), []byte("!"), unix.MSG_OOB, nil)) })
		_, err3 := e.Write([]byte("behind"))
		got := make([]byte, 13)
		_, err4 := io.ReadFull(e, got)
		if err = errors.Join(err, err1, err2, err3, err4); err != nil {
			return err
		}
		if string(got) != "before!behind" {
			return fmt.Errorf("got %q", got)
		}
	}
	return nil
}

func fetch(e *end, arg []int64) error {
	<-time.After(time.Duration(arg[1]) * time.Millisecond)
	if err := same(e, arg[0]); err != nil {
		return err
	}
	return noMore(e)
}

func supply(e *end, arg []int64) error {
	e.patience += time.Duration(arg[1]) * time.Millisecond
	return fill(e, arg[0])
}

func supplyAndWait(e *end, arg []int64) error {
	if err := supply(e, arg); err != nil {
		return err
	}
	answer, err := io.ReadAll(e)
	if err == nil && string(answer) != "y" {
		err = fmt.Errorf("answered with %q: %w", answer, io.EOF)
	}
	return err
}

func fetchAndAnswer(e *end, arg []int64) error {
	if err := fetch(e, arg); err != nil {
		return err
	}
	_, err := e.Write([]byte("y"))
	return err
}

func echoes(e *end, _ []int64) error {
	e.live()
	buf := make([]byte, chunk)
	if _, err := io.CopyBuffer(struct{ io.Writer }{e}, struct{ io.Reader }{e}, buf); err != nil {
		return err
	}
	return e.CloseWrite()
}

// pings prints how long the questions took: the median, and the 99th of a hundred.
func pings(e *end, arg []int64) error {
	took := make([]time.Duration, arg[0])
	for i := range took {
		began := time.Now()
		if err := question(e); err != nil {
			return err
		}
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	fmt.Printf("ping p50=%d p99=%d\n", took[len(took)/2].Microseconds(), took[len(took)*99/100].Microseconds())
	return nil
}

func question(e *end) error {
	text := bytes.Repeat([]byte("?"), little)
	if _, err := e.Write(text); err != nil {
		return err
	}
	answer := make([]byte, little)
	if _, err := io.ReadFull(e, answer); err != nil {
		return err
	}
	if !bytes.Equal(answer, text) {
		return fmt.Errorf("answer %q", answer)
	}
	return nil
}

func talk(e *end, _ []int64) error {
	for {
		if err := question(e); err != nil {
			return err
		}
		e.up()
		select {
		case <-e.ctx.Done():
			return nil
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func hold(e *end, arg []int64) error {
	if err := question(e); err != nil {
		return err
	}
	e.up()
	return readOn(e, arg)
}

// readOn reads until the stream ends, which is an error, or the program does.
func readOn(e *end, _ []int64) error {
	e.live()
	buf := make([]byte, chunk)
	for {
		if _, err := e.Read(buf); err != nil {
			return unlessOver(e, err)
		}
		e.up()
	}
}

func unlessOver(e *end, err error) error {
	if e.ctx.Err() != nil {
		return nil
	}
	return err
}

func dribble(e *end, _ []int64) error {
	e.live()
	for text := make([]byte, drop); ; <-time.After(pause) {
		if _, err := e.Write(text); err != nil {
			return unlessOver(e, err)
		}
	}
}

func pour(e *end, _ []int64) error {
	e.live()
	for text := make([]byte, chunk); ; {
		if _, err := e.Write(text); err != nil {
			return unlessOver(e, err)
		}
		e.up()
	}
}

// paced is readOn with a pause between reads.
func paced(size int, pause time.Duration) func(*end, []int64) error {
	return func(e *end, _ []int64) error {
		e.live()
		for some := make([]byte, size); ; <-time.After(pause) {
			if _, err := e.Read(some); err != nil {
				return unlessOver(e, err)
			}
			e.up()
		}
	}
}
