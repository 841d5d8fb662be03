// SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"

	"tacit/identity"
	"tacit/node/gossip/wire"
)

// Kinds of packets and streams.
const (
	kindMembership wire.Kind = 'm' // memberlist's own
	kindPayload    wire.Kind = 'p' // packets: a frame; streams: a payload
	kindState      wire.Kind = 's' // streams: both ends' states
)

// transport is memberlist's network.
type transport struct {
	wire    *wire.Wire
	ctx     context.Context
	packets chan *memberlist.Packet
	streams chan net.Conn
}

var _ memberlist.NodeAwareTransport = (*transport)(nil)

func newTransport(ctx context.Context) *transport {
	return &transport{ctx: ctx, packets: make(chan *memberlist.Packet), streams: make(chan net.Conn)}
}

// errNameless: memberlist is configured to name the node in every call.
var errNameless = errors.New("gossip sends to named nodes only")

// FinalAdvertiseAddr returns the address that both sockets are bound to.
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	at := t.wire.Addr()
	return at.Addr().AsSlice(), int(at.Port()), nil
}

// WriteTo is never called.
func (t *transport) WriteTo([]byte, string) (time.Time, error) { return time.Time{}, errNameless }

// DialTimeout is never called.
func (t *transport) DialTimeout(string, time.Duration) (net.Conn, error) { return nil, errNameless }

// WriteToAddress sends one packet.
func (t *transport) WriteToAddress(b []byte, to memberlist.Address) (time.Time, error) {
	at, err := netip.ParseAddrPort(to.Addr)
	if err != nil || to.Name == "" {
		return time.Time{}, fmt.Errorf("gossip to %q at %q: %w", to.Name, to.Addr, errors.Join(err, errNameless))
	}
	return time.Now(), t.wire.Send(identity.Name(to.Name), at, kindMembership, b)
}

// DialAddressTimeout opens a stream.
func (t *transport) DialAddressTimeout(to memberlist.Address, timeout time.Duration) (net.Conn, error) {
	at, err := netip.ParseAddrPort(to.Addr)
	if err != nil || to.Name == "" {
		return nil, fmt.Errorf("gossip to %q at %q: %w", to.Name, to.Addr, errors.Join(err, errNameless))
	}
	ctx, cancel := context.WithTimeout(t.ctx, timeout)
	defer cancel()
	c, _, err := t.wire.Dial(ctx, identity.Name(to.Name), at, kindMembership)
	if err != nil {
		return nil, err
	}
	return guard(c), nil
}

// PacketCh returns the channel of received packets.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh returns the channel of accepted streams.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// Shutdown closes the sockets.
func (t *transport) Shutdown() error { return t.wire.Close() }

// packet takes one of another node's.
func (t *transport) packet(at netip.AddrPort, body []byte) {
	p := &memberlist.Packet{Buf: body, From: net.UDPAddrFromAddrPort(at), Timestamp: time.Now()}
	select {
	case t.packets <- p:
	case <-t.ctx.Done():
	}
}

// stream takes one that another node opened.
func (t *transport) stream(c net.Conn) {
	select {
	case t.streams <- guard(c):
	case <-t.ctx.Done():
		_ = c.Close()
	}
}
