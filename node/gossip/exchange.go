// SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"tacit/identity"
	"tacit/node/gossip/wire"
)

const (
	maxPayload      = 20 << 20 // bytes of a payload or a state
	smallPayload    = 64 << 10 // bytes; longer ones wait for a place
	largeAtOnce     = 2        // places; one member has one at most, so that it can't take the others'
	exchangeTimeout = 10 * time.Second
)

// errTooMuch: the sender's share is used up, or the payload is too long.
var errTooMuch = errors.New("it sends more than a member may")

// received has the payload of a stream handled that another member opened.
func (p *Pool) received(from identity.Name, kind wire.Kind, c net.Conn) {
	if kind == kindMembership {
		p.net.stream(c)
		return
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(exchangeTimeout))
	var answer func() []byte
	if kind == kindState {
		answer = p.cfg.Delegate.State
	}
	if err := p.receive(from, c, answer); err != nil {
		p.log.Debug("gossip stream failed", "node", from, "err", err)
	}
}

// receive reads one payload, sends the answer where one is due, and merges.
func (p *Pool) receive(from identity.Name, c net.Conn, answer func() []byte) error {
	n, err := readLength(c)
	if err != nil {
		return err
	}
	if n > maxPayload || !p.wire.Take(from, n) {
		return errTooMuch
	}
	leave, err := p.large.enter(p.ctx, from, n)
	if err != nil {
		return err
	}
	defer leave()
	payload := make([]byte, n)
	if _, err := io.ReadFull(c, payload); err != nil {
		return err
	}
	if answer != nil {
		err = writePayload(c, answer())
	}
	p.merge(from, payload)
	return err
}

func readLength(c net.Conn) (int, error) {
	var head [4]byte
	_, err := io.ReadFull(c, head[:])
	return int(binary.BigEndian.Uint32(head[:])), err
}

func writePayload(c net.Conn, payload []byte) error {
	if _, err := c.Write(binary.BigEndian.AppendUint32(nil, uint32(len(payload)))); err != nil {
		return err
	}
	_, err := c.Write(payload)
	return err
}

// exchange swaps states with the member at an address, and then the lists of nodes.
// The name may be empty: whoever is there. When ctx ends first, the lists follow in
// the background.
func (p *Pool) exchange(ctx context.Context, name identity.Name, at netip.AddrPort) error {
	who, err := p.swapStates(ctx, name, at)
	if err != nil {
		return fmt.Errorf("%s: %w", nameOf(name, at), err)
	}
	if err := p.cfg.Delegate.Admit(who, at); err != nil {
		return err
	}
	_, err = p.list.Join([]string{string(who) + "/" + at.String()})
	return err
}

// nameOf names a node for an error.
func nameOf(name identity.Name, at netip.AddrPort) string {
	if name == "" {
		return at.String()
	}
	return fmt.Sprintf("%s at %s", name, at)
}

func (p *Pool) swapStates(ctx context.Context, name identity.Name, at netip.AddrPort) (identity.Name, error) {
	c, who, err := p.wire.Dial(ctx, name, at, kindState)
	if err != nil {
		return "", err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	_ = c.SetDeadline(time.Now().Add(exchangeTimeout))
	if err := writePayload(c, p.cfg.Delegate.State()); err != nil {
		return who, refusedBy(err)
	}
	return who, refusedBy(p.receive(who, c, nil))
}

// refusedBy explains the end of a connection by the other side.
func refusedBy(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && (op.Op == "remote error" || op.Op == "write") {
		return fmt.Errorf("it ends the connection; is this node revoked, or isn't it known there yet? %w", err)
	}
	return err
}

// places bounds the memory that long payloads take.
type places struct {
	all chan struct{}

	mu sync.Mutex
	by map[identity.Name]chan struct{} // of each member: it has one place at most
}

func newPlaces() *places {
	return &places{all: make(chan struct{}, largeAtOnce), by: map[identity.Name]chan struct{}{}}
}

// of returns what holds the place of one member.
func (p *places) of(from identity.Name) chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	own := p.by[from]
	if own == nil {
		own = make(chan struct{}, 1)
		p.by[from] = own
	}
	return own
}

// enter waits for a place for n bytes: a long change comes in several payloads.
func (p *places) enter(ctx context.Context, from identity.Name, n int) (leave func(), err error) {
	if n <= smallPayload {
		return func() {}, nil
	}
	own := p.of(from)
	ctx, cancel := context.WithTimeout(ctx, exchangeTimeout/2)
	defer cancel()
	for _, place := range []chan struct{}{own, p.all} {
		select {
		case place <- struct{}{}:
		case <-ctx.Done():
			if place == p.all {
				<-own
			}
			return nil, errors.New("too many long payloads at once")
		}
	}
	return func() { <-p.all; <-own }, nil
}

// sendPayload sends a payload that is too long for a packet.
func (p *Pool) sendPayload(to Member, payload []byte) error {
	c, _, err := p.wire.Dial(p.ctx, to.Name, to.Addr, kindPayload)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(exchangeTimeout))
	return writePayload(c, payload)
}
