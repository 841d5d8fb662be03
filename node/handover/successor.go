// SPDX-License-Identifier: Apache-2.0

package handover

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"syscall"
	"time"

	"tacit/identity"
)

// ErrNobody means that no daemon runs here that could hand over.
var ErrNobody = errors.New("no tacitd runs here")

// holdTime is how long an incumbent may need to stop writing.
const holdTime = 20 * time.Second

// Succession is what an incumbent has handed over. It holds still until Take, or goes
// on after Cancel or the end of this process.
type Succession struct {
	State
	PID     int // the incumbent's
	Sockets map[string]*os.File
	conn    *net.UnixConn
	asked   time.Time
}

// Ask asks the incumbent whose socket is at path. Errors: ErrNobody, or why it refuses.
func Ask(path string, h Hello) (*Succession, error) {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, ErrNobody
	}
	if err != nil {
		return nil, fmt.Errorf("--take-over: %w", err)
	}
	s := &Succession{conn: conn, asked: time.Now(), Sockets: map[string]*os.File{}}
	if err := s.ask(h); err != nil {
		s.Cancel()
		return nil, fmt.Errorf("--take-over: %w", err)
	}
	return s, nil
}

func (s *Succession) ask(h Hello) (err error) {
	h.Protocol = protocol
	if s.PID, err = pidOf(s.conn); err != nil {
		return err
	}
	within(s.conn, holdTime)
	if err := send(s.conn, message{Hello: &h}); err != nil {
		return err
	}
	m, _, err := receive(s.conn)
	switch {
	case err != nil:
		return fmt.Errorf("the running tacitd (process %d) hands nothing over: %w", s.PID, err)
	case m.Refused != "":
		return fmt.Errorf("the running tacitd (process %d) refuses: %s", s.PID, m.Refused)
	case m.State == nil:
		return errMalformed
	}
	s.State = *m.State
	return s.receiveSockets()
}

func (s *Succession) receiveSockets() error {
	for {
		m, files, err := receive(s.conn)
		for i, f := range files {
			if i < len(m.Sockets) {
				s.Sockets[m.Sockets[i]] = f
			}
		}
		if err != nil || m.End {
			return err
		}
	}
}

// Daemons are the processes that may be in the daemon's cgroup besides this one.
func (s *Succession) Daemons() []int {
	if s == nil {
		return nil
	}
	return append(slices.Clone(s.Beside), s.PID)
}

// Reached is the incumbent's epoch, where a member has told it all it knows; else 0.
func (s *Succession) Reached() uint64 {
	if s == nil {
		return 0
	}
	return s.Epoch
}

// Certificates are those of the services here.
func (s *Succession) Certificates() []Certificate {
	if s == nil {
		return nil
	}
	return s.Services
}

// ChecksLeft are the states of the health checks.
func (s *Succession) ChecksLeft() json.RawMessage {
	if s == nil {
		return nil
	}
	return s.Checks
}

// aliveFor is how long an incumbent's word about the members counts: gossip finds all
// of them, or that they are dead, within that time.
const aliveFor = 5 * time.Second

// StillAlive are the members that the incumbent saw alive, for a while.
func (s *Succession) StillAlive() []identity.Name {
	if s == nil || time.Since(s.asked) > aliveFor {
		return nil
	}
	return s.Alive
}

// Cancel lets the incumbent go on.
func (s *Succession) Cancel() {
	if s == nil {
		return
	}
	_ = s.conn.Close()
	for _, f := range s.Sockets {
		_ = f.Close()
	}
}

// Take is called when everything is open. When it returns, the incumbent has let go of
// all that only one daemon can have, and only carries its streams. Errors: the incumbent
// goes on, or is gone.
func (s *Succession) Take() (*Predecessor, error) {
	within(s.conn, holdTime)
	if err := send(s.conn, message{Opened: true}); err != nil {
		return nil, fmt.Errorf("--take-over: the running tacitd goes on: %w", err)
	}
	m, _, err := receive(s.conn)
	if err == nil && !m.Release {
		err = errMalformed
	}
	if err == nil {
		err = s.conn.SetDeadline(time.Time{})
	}
	if err != nil {
		return nil, fmt.Errorf("--take-over: the running tacitd did not let go: %w", err)
	}
	return newPredecessor(s), nil
}
