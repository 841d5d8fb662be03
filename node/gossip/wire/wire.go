// SPDX-License-Identifier: Apache-2.0

// Package wire carries packets and streams between the members of a mesh. Each
// proves by the sender's node key who sent it, and nobody else can read it; what it
// costs is counted against the sender. It must not know what is carried.
package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"tacit/identity"
	"tacit/tproxy/accept"
)

// Kind says what a packet or stream carries; it is its first byte.
type Kind byte

const (
	dialTimeout   = 2 * time.Second
	greetTimeout  = 3 * time.Second // of an accepted stream: handshake and kind
	receiveBuffer = 2 << 20         // bytes of the kernel's buffer, for bursts
	bindTries     = 10              // port 0: the free TCP port may be taken in UDP
)

// Peer is a member, by the signed records.
type Peer struct {
	Public []byte         // of its node key: SPKI, DER
	Addr   netip.AddrPort // of its gossip port; invalid while no record says it
}

// Config is what a Wire works with.
type Config struct {
	Self       identity.Name
	Addr       netip.AddrPort // port 0: a free one
	Mesh       string         // packets of other meshes are refused
	Key        *identity.Key
	Identities identity.Source
	Peer       func(identity.Name) (Peer, bool) // false: no member, or revoked
	Packet     func(from identity.Name, at netip.AddrPort, kind Kind, body []byte)
	Stream     func(from identity.Name, kind Kind, conn net.Conn) // owns the connection
	Cut        func(member identity.Name, why error)              // nil: the member is heard again
	Log        *slog.Logger
}

// Wire is one UDP and one TCP socket on the node's address. It never opens MPTCP
// sockets, and closes every connection on Close.
type Wire struct {
	conf   Config
	addr   netip.AddrPort
	udp    *net.UDPConn
	tcp    net.Listener
	sealer *sealer
	conns  *conns
	meter  *meter
	junk   atomic.Uint64
	ctx    context.Context
	cancel context.CancelFunc
	wait   sync.WaitGroup
}

// Open opens both sockets. Nothing is received before Run.
func Open(c Config, known func(netip.Addr) bool) (*Wire, error) {
	w := &Wire{conf: c, sealer: newSealer(c), conns: newConns(known)}
	w.meter = newMeter(w.cut)
	var err error
	for range bindTries {
		err = w.bind(c.Addr)
		if c.Addr.Port() != 0 || !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	_ = w.udp.SetReadBuffer(receiveBuffer) // the kernel's limit may be lower
	w.ctx, w.cancel = context.WithCancel(context.Background())
	return w, nil
}

func (w *Wire) bind(addr netip.AddrPort) error {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	tcp, err := lc.Listen(context.Background(), "tcp", addr.String())
	if err != nil {
		return err
	}
	port := uint16(tcp.Addr().(*net.TCPAddr).Port)
	at := netip.AddrPortFrom(addr.Addr(), port)
	udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return errors.Join(err, tcp.Close())
	}
	w.tcp, w.udp, w.addr = tcp, udp, at
	return nil
}

// Run begins to receive.
func (w *Wire) Run() {
	w.wait.Go(w.readPackets)
	w.wait.Go(w.acceptStreams)
}

// Addr is where both sockets are bound.
func (w *Wire) Addr() netip.AddrPort { return w.addr }

// Refused counts the packets and streams that proved no member as their sender, or
// were more than it may send.
func (w *Wire) Refused() uint64 { return w.junk.Load() }

// Close closes everything and waits for the readers, of which acceptStreams closes
// its listener itself.
func (w *Wire) Close() error {
	w.cancel()
	err := errors.Join(w.udp.Close(), w.tcp.Close())
	w.conns.closeAll()
	w.meter.close()
	w.wait.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Send sends one packet to a member. One for a node that is no member, or isn't
// where its record says, is dropped as the network would.
func (w *Wire) Send(to identity.Name, at netip.AddrPort, kind Kind, body []byte) error {
	peer, ok := w.conf.Peer(to)
	if !ok || peer.elsewhere(at) || w.meter.isCut(to) {
		return nil
	}
	packet, err := w.sealer.seal(to, peer.Public, kind, body)
	if err != nil {
		return err
	}
	_, err = w.udp.WriteToUDPAddrPort(packet, at)
	return err
}

// elsewhere: its signed record gives another address.
func (p Peer) elsewhere(at netip.AddrPort) bool {
	return p.Addr.IsValid() && p.Addr.Addr().Unmap() != at.Addr().Unmap()
}

func (w *Wire) readPackets() {
	buf := make([]byte, 1<<16)
	for {
		n, at, err := w.udp.ReadFromUDPAddrPort(buf)
		if err != nil {
			if w.pause() {
				return
			}
			continue
		}
		from, kind, body, err := w.sealer.open(buf[:n])
		if err != nil || !w.meter.packet(from, n) {
			w.junk.Add(1)
			continue
		}
		w.conf.Packet(from, at, kind, body)
	}
}

// pause waits a little after a socket error, such as no free descriptors, and
// reports whether the wire is closed.
func (w *Wire) pause() (closed bool) {
	select {
	case <-w.ctx.Done():
		return true
	case <-time.After(20 * time.Millisecond):
		return false
	}
}

// Dial opens a stream to a member; the name may be empty where only its address is
// known. It returns who answers.
func (w *Wire) Dial(ctx context.Context, to identity.Name, at netip.AddrPort, kind Kind) (net.Conn, identity.Name, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	defer context.AfterFunc(w.ctx, cancel)()
	if to != "" && w.meter.isCut(to) {
		return nil, "", fmt.Errorf("%s is cut off", to)
	}
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(w.addr.Addr(), 0))}
	d.SetMultipathTCP(false)
	raw, err := d.DialContext(ctx, "tcp", at.String())
	if err != nil {
		return nil, "", err
	}
	conf := identity.GossipClientTLS(w.conf.Identities, func(id identity.ID, chain []identity.KeyID) error {
		if to != "" && id.Name() != to {
			return fmt.Errorf("%s answers there, not %s", id, to)
		}
		return w.check(id, chain)
	})
	return w.greet(ctx, raw, conf, kind)
}

func (w *Wire) greet(ctx context.Context, raw net.Conn, conf *tls.Config, kind Kind) (net.Conn, identity.Name, error) {
	c, err := w.conns.outbound(raw)
	if err != nil {
		return nil, "", err
	}
	secure := tls.Client(c, conf)
	err = secure.HandshakeContext(ctx)
	if err == nil {
		_, err = secure.Write([]byte{byte(kind)})
	}
	if err != nil {
		_ = c.Close()
		return nil, "", err
	}
	id, _, err := identity.PeerID(secure.ConnectionState())
	w.conns.prove(c, id.Name())
	return secure, id.Name(), err
}

// check accepts a member by the key in its record.
func (w *Wire) check(id identity.ID, chain []identity.KeyID) error {
	peer, ok := w.conf.Peer(id.Name())
	key, err := identity.KeyIDOf(peer.Public)
	if !ok || !id.IsNode() || err != nil || key != chain[0] {
		return fmt.Errorf("%s: no member with this key", id)
	}
	return nil
}

func (w *Wire) acceptStreams() {
	conf := identity.GossipTLS(w.conf.Identities, w.check)
	err := accept.Loop(w.ctx, w.tcp, func(raw net.Conn) {
		c, ok := w.conns.inbound(raw)
		if !ok {
			w.junk.Add(1)
			_ = raw.Close()
			return
		}
		w.wait.Go(func() { w.welcome(c, tls.Server(c, conf)) })
	})
	if err != nil {
		w.conf.Log.Error("gossip takes no more streams from other nodes; restart tacitd", "err", err)
	}
}

// welcome learns who has opened a stream and what for, and hands it on.
func (w *Wire) welcome(c *conn, secure *tls.Conn) {
	var kind [1]byte
	_ = secure.SetDeadline(time.Now().Add(greetTimeout))
	err := secure.HandshakeContext(w.ctx)
	if err == nil {
		_, err = secure.Read(kind[:])
	}
	var id identity.ID
	if err == nil {
		id, _, err = identity.PeerID(secure.ConnectionState())
	}
	if err != nil {
		w.junk.Add(1)
		w.conf.Log.Debug("gossip stream refused", "peer", c.RemoteAddr(), "err", err)
		_ = c.Close()
		return
	}
	if !w.conns.prove(c, id.Name()) || !w.meter.stream(id.Name()) {
		_ = c.Close()
		return
	}
	_ = secure.SetDeadline(time.Time{})
	w.conf.Stream(id.Name(), Kind(kind[0]), secure)
}

// Take counts n bytes that a member's stream carries; false: they are too many.
func (w *Wire) Take(from identity.Name, n int) bool { return w.meter.take(from, n) }

// Forged counts what no honest member sends, n times.
func (w *Wire) Forged(from identity.Name, n int) { w.meter.forgery(from, n) }

// IsCut reports whether a member is cut off now.
func (w *Wire) IsCut(member identity.Name) bool { return w.meter.isCut(member) }

// cut is called when a member is cut off, and with nil when it is heard again.
func (w *Wire) cut(member identity.Name, why error) {
	if why != nil {
		w.conns.closeOf(member)
	}
	w.conf.Cut(member, why)
}
