// SPDX-License-Identifier: Apache-2.0

package carrier

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// silence is a way for a node to say nothing any more, and how it speaks again.
type silence struct {
	name         string
	strike, mend func(*fixture, *testing.T)
}

func silences() []silence {
	return []silence{
		{"daemon stopped by a signal", func(f *fixture, t *testing.T) { f.there.Current(t).Signal(syscall.SIGSTOP) },
			func(f *fixture, t *testing.T) { f.there.Current(t).Signal(syscall.SIGCONT) }},
		{"link down", func(f *fixture, t *testing.T) { f.there.Unplug(t) }, func(f *fixture, t *testing.T) { f.there.Plug(t) }},
		{"power off", (*fixture).powerOff, (*fixture).powerOn},
	}
}

// powerOff ends daemon and program; not a packet of that leaves the node.
func (f *fixture) powerOff(t *testing.T) {
	f.there.Unplug(t)
	f.there.Kill(t)
	f.server.Signal(syscall.SIGKILL)
	<-f.server.Ended()
}

func (f *fixture) powerOn(t *testing.T) {
	f.there.Plug(t)
	f.there.Daemon(f.t)
	f.serve()
}

// silence: the streams of a peer that goes silent end, and the lanes to it are given
// up; once it speaks again, it is called again.
func (f *fixture) silence(t *testing.T) {
	for _, s := range silences() {
		t.Run(s.name, func(t *testing.T) { f.silent(t, s) })
		f.answers(t)
	}
	t.Run("daemon of the caller stopped by a signal", f.callerSilent)
}

// everything that streams can be in the middle of.
func (f *fixture) everything(t *testing.T) (running []streams) {
	t.Helper()
	for _, op := range busy() {
		running = append(running, f.ways[0].start(t, busyStreams, op).up(t))
	}
	return running
}

const busyStreams = 10 // of each operation

func busy() []string { return []string{"trickle", "gulp", "pour", "hold"} }

func (f *fixture) silent(t *testing.T, s silence) {
	running := f.everything(t)
	struck := time.Now()
	s.strike(f, t)
	defer s.mend(f, t)
	testhost.Eventually(t, 10*time.Second, "the streams end", func() error {
		for _, s := range running {
			if !strings.Contains(s.Output(), "\nended") {
				return fmt.Errorf("%s: some go on", s.what)
			}
		}
		return nil
	})
	for _, s := range running {
		last := s.all(t, "reset").last.Sub(struck)
		figure(t, s.what+": the last one ends", "<= 1.5 s", last.Round(time.Millisecond), last <= 1500*time.Millisecond)
	}
	testhost.Eventually(t, 10*time.Second, "the lanes are given up", func() error {
		if lanes := lanesOf(t, f.here); len(lanes) > 0 {
			return fmt.Errorf("%v", lanes)
		}
		return nil
	})
	figure(t, "no lane is left", "<= 1.5 s", time.Since(struck).Round(time.Millisecond), time.Since(struck) <= 1500*time.Millisecond)
}

// callerSilent: the program that was called sees the end, too, and not a clean one.
func (f *fixture) callerSilent(t *testing.T) {
	ended := func() (n int) {
		for _, op := range busy() {
			n += f.said(op + " ")
		}
		return n
	}
	clean := func() int { return f.said("hold ok") + f.said("pour eof") }
	running := f.everything(t)
	endedBefore, cleanBefore, struck := ended(), clean(), time.Now()
	f.here.Current(t).Signal(syscall.SIGSTOP)
	defer f.here.Current(t).Signal(syscall.SIGCONT)
	testhost.Eventually(t, 10*time.Second, "the streams end", func() error {
		if n := ended() - endedBefore; n < busyStreams*len(busy()) {
			return fmt.Errorf("%d ended", n)
		}
		return nil
	})
	figure(t, "the last one ends", "<= 1.5 s", time.Since(struck).Round(time.Millisecond), time.Since(struck) <= 1500*time.Millisecond)
	if n := clean() - cleanBefore; n > 0 {
		t.Errorf("%d ended with an end of file", n)
	}
	f.here.Current(t).Signal(syscall.SIGCONT)
	for _, s := range running {
		s.all(t, "reset")
	}
}

// loaded: while both daemons are as busy as they can be, no
// stream ends.
func (f *fixture) loaded(t *testing.T) {
	running := f.everything(t)
	for _, op := range []string{"flood", "pour"} {
		running = append(running, f.ways[0].start(t, busyStreams, op).up(t))
	}
	<-time.After(time.Duration(size(5, 600)) * time.Second)
	for _, s := range running {
		s.Signal(syscall.SIGTERM)
	}
	for _, s := range running {
		s.all(t, "ok")
	}
}
