// SPDX-License-Identifier: Apache-2.0

package handover

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"syscall"
	"time"

	"tacit/identity"
)

// Parts are those of a daemon that write, those that listen, and what they know.
type Parts struct {
	Loop interface {
		Hold()
		Resume(retire bool)
	}
	Datapath interface {
		Hold()
		Resume()
	}
	Audit interface {
		Hold()
		Resume()
	}
	Checks interface {
		Hold() (json.RawMessage, error)
		Resume()
	}
	Store interface {
		Suspend() error
		Resume() error
	}
	Listening []interface {
		Sockets() map[string]syscall.Conn
	}
	Services    func() map[identity.Name]*identity.SVID
	Epoch       func() uint64 // of the records; see State
	Alive       func() map[identity.Name]bool
	Unconfirmed func() (left time.Duration, waits bool)
	Gossip      io.Closer
	Programs    interface{ LetGo() error }
}

// hold has all parts stop writing, and adds to the state what they know.
func (p Parts) hold(state *State) (sockets Sockets, err error) {
	state.Epoch = p.Epoch()
	for name, up := range p.Alive() {
		if up {
			state.Alive = append(state.Alive, name)
		}
	}
	if state.Services, err = certificatesOf(p.Services()); err != nil {
		return nil, err
	}
	p.Loop.Hold()
	p.Datapath.Hold()
	p.Audit.Hold()
	state.Checks, err = p.Checks.Hold()
	if err == nil {
		err = p.Store.Suspend()
	}
	if err != nil {
		return nil, errors.Join(err, p.resume())
	}
	sockets = Sockets{}
	for _, part := range p.Listening {
		maps.Copy(sockets, part.Sockets())
	}
	return sockets, nil
}

// resume undoes hold: there is no successor.
func (p Parts) resume() error {
	err := p.Store.Resume()
	p.Checks.Resume()
	p.Audit.Resume()
	p.Datapath.Resume()
	p.Loop.Resume(false)
	return err
}

// retire lets the parts end that a successor has replaced, once their contexts have
// ended.
func (p Parts) retire() {
	p.Datapath.Resume()
	p.Loop.Resume(true)
}

func certificatesOf(all map[identity.Name]*identity.SVID) (out []Certificate, err error) {
	for name, s := range all {
		key, err := s.Key.PEM()
		if err != nil {
			return nil, fmt.Errorf("key of %s: %w", name, err)
		}
		out = append(out, Certificate{name, identity.EncodeChain(s.Chain), key})
	}
	return out, nil
}
