// SPDX-License-Identifier: Apache-2.0

package handover

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Path is that of the incumbent's socket in the folder of the run-time files.
func Path(dir string) string { return filepath.Join(dir, "handover.sock") }

const (
	sayTime  = 5 * time.Second  // for one message
	openTime = 60 * time.Second // for the successor to open everything
)

// Incumbent is the daemon that runs.
type Incumbent interface {
	// Hold has the daemon stop writing, to the state directory and the kernel, and
	// returns what a successor needs. An error is why it can't; then nothing was held.
	Hold(Hello) (State, Sockets, error)
	// Resume undoes Hold: there is no successor.
	Resume()
	// Release lets go of what only one daemon can have.
	Release()
}

// Server answers successors.
type Server struct {
	ln   *net.UnixListener
	path string
	log  *slog.Logger
}

// Listen opens the socket, in place of that of an incumbent which goes on to use its
// own. Nobody but root and this user is answered.
func Listen(path string, log *slog.Logger) (*Server, error) {
	fresh := path + ".new"
	_ = os.Remove(fresh)
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: fresh, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	ln.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(fresh, 0o600), os.Rename(fresh, path)); err != nil {
		return nil, errors.Join(fmt.Errorf("socket %s: %w", path, err), ln.Close())
	}
	return &Server{ln, path, log}, nil
}

// Close ends Run. A successor has put its own socket at the path.
func (s *Server) Close() error { return s.ln.Close() }

// Run answers one successor after another, until one has taken over or ctx ends. It
// returns the connection to that one, nil at the end of ctx.
func (s *Server) Run(ctx context.Context, in Incumbent) (*Successor, error) {
	defer context.AfterFunc(ctx, func() { _ = s.ln.Close() })()
	for {
		conn, err := s.ln.AcceptUnix()
		if ctx.Err() != nil {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("socket %s: %w", s.path, err)
		}
		pid, err := s.answer(conn, in)
		if err == nil {
			return &Successor{pid, conn}, s.ln.Close()
		}
		_ = conn.Close()
		s.log.Warn("no hand-over", "pid", pid, "err", err)
	}
}

// answer hands over to the process at the other end; after an error this daemon goes on
// as before.
func (s *Server) answer(c *net.UnixConn, in Incumbent) (pid int, err error) {
	within(c, sayTime)
	if pid, err = pidOf(c); err != nil {
		return pid, err
	}
	m, _, err := receive(c)
	if err != nil {
		return pid, err
	}
	if m.Hello == nil || m.Hello.Protocol != protocol {
		return pid, refuse(c, fmt.Errorf("the running tacitd speaks protocol %d of the hand-over", protocol))
	}
	s.log.Info("another tacitd wants to take over", "pid", pid)
	state, sockets, err := in.Hold(*m.Hello)
	if err != nil {
		return pid, refuse(c, err)
	}
	if err = give(c, state, sockets); err != nil {
		in.Resume()
		return pid, fmt.Errorf("it has not taken over: %w", err)
	}
	in.Release()
	within(c, sayTime)
	if err := send(c, message{Release: true}); err != nil {
		s.log.Warn("the successor is gone", "pid", pid, "err", err) // asking it will fail, too
	}
	return pid, c.SetDeadline(time.Time{})
}

func refuse(c *net.UnixConn, why error) error {
	return errors.Join(why, send(c, message{Refused: why.Error()}))
}

// give returns nil once the successor has opened everything.
func give(c *net.UnixConn, state State, sockets Sockets) error {
	within(c, sayTime)
	if err := send(c, message{State: &state}); err != nil {
		return err
	}
	if err := sendSockets(c, sockets); err != nil {
		return err
	}
	within(c, openTime)
	m, _, err := receive(c)
	if err == nil && !m.Opened {
		err = errMalformed
	}
	return err
}
