// SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"

	"tacit/tproxy/accept"
)

const (
	dialTimeout   = 2 * time.Second
	receiveBuffer = 2 << 20 // bytes of the kernel's buffer, for bursts
	labelType     = 244     // memberlist's hasLabelMsg
	bindTries     = 10      // port 0: the free TCP port may be taken in UDP
)

// transport is memberlist's network: one UDP and one TCP socket on the node's
// address. Unlike memberlist's own transport it never opens MPTCP sockets, copies
// only packets with this mesh's label, limits the bytes from strangers' streams,
// and closes every connection on Shutdown.
type transport struct {
	addr    netip.AddrPort
	label   []byte // header of every packet of this mesh
	udp     *net.UDPConn
	tcp     net.Listener
	packets chan *memberlist.Packet
	streams chan net.Conn
	conns   *conns
	log     *slog.Logger
	ctx     context.Context
	cancel  context.CancelFunc
	wait    sync.WaitGroup
}

var _ memberlist.NodeAwareTransport = (*transport)(nil)

// listen opens both sockets; knows reports whether an address is a member's.
func listen(addr netip.AddrPort, label string, knows func(netip.Addr) bool, log *slog.Logger) (*transport, error) {
	t := &transport{
		packets: make(chan *memberlist.Packet),
		streams: make(chan net.Conn),
		conns:   newConns(knows),
		log:     log,
	}
	if label != "" {
		t.label = append([]byte{labelType, byte(len(label))}, label...)
	}
	var err error
	for range bindTries {
		err = t.bind(addr)
		if addr.Port() != 0 || !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	_ = t.udp.SetReadBuffer(receiveBuffer) // the kernel's limit may be lower
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.wait.Go(t.readPackets)
	t.wait.Go(t.acceptStreams)
	return t, nil
}

func (t *transport) bind(addr netip.AddrPort) error {
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
	t.tcp, t.udp, t.addr = tcp, udp, at
	return nil
}

// FinalAdvertiseAddr returns the address that both sockets are bound to.
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.addr.Addr().AsSlice(), int(t.addr.Port()), nil
}

// WriteTo sends one packet.
func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return time.Time{}, fmt.Errorf("gossip to %q: %w", addr, err)
	}
	_, err = t.udp.WriteToUDPAddrPort(b, to)
	return time.Now(), err
}

// WriteToAddress is WriteTo; the name is ignored.
func (t *transport) WriteToAddress(b []byte, addr memberlist.Address) (time.Time, error) {
	return t.WriteTo(b, addr.Addr)
}

// DialTimeout opens a stream from the node's address.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	d := net.Dialer{
		Timeout:   min(timeout, dialTimeout),
		LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(t.addr.Addr(), 0)),
	}
	d.SetMultipathTCP(false)
	c, err := d.DialContext(t.ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return t.conns.outbound(c)
}

// DialAddressTimeout is DialTimeout; the name is ignored.
func (t *transport) DialAddressTimeout(addr memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.DialTimeout(addr.Addr, timeout)
}

// PacketCh returns the channel of received packets.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh returns the channel of accepted streams.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// Shutdown closes everything and waits for both readers, of which acceptStreams
// closes its listener itself.
func (t *transport) Shutdown() error {
	t.cancel()
	err := t.udp.Close()
	t.conns.closeAll()
	t.wait.Wait()
	return err
}

func (t *transport) readPackets() {
	buf := make([]byte, 1<<16)
	for {
		n, from, err := t.udp.ReadFromUDPAddrPort(buf)
		if err != nil {
			if t.pause() {
				return
			}
			continue
		}
		if n == 0 || !bytes.HasPrefix(buf[:n], t.label) {
			continue
		}
		p := &memberlist.Packet{Buf: bytes.Clone(buf[:n]), From: net.UDPAddrFromAddrPort(from), Timestamp: time.Now()}
		select {
		case t.packets <- p:
		case <-t.ctx.Done():
			return
		}
	}
}

func (t *transport) acceptStreams() {
	err := accept.Loop(t.ctx, t.tcp, func(c net.Conn) {
		in, ok := t.conns.inbound(c)
		if !ok {
			_ = c.Close()
			return
		}
		select {
		case t.streams <- in:
		case <-t.ctx.Done():
			_ = in.Close()
		}
	})
	if err != nil {
		t.log.Error("gossip takes no more streams from other nodes; restart tacitd", "err", err)
	}
}

// pause waits a little after a socket error, such as no free descriptors, and
// reports whether the transport is closed.
func (t *transport) pause() (closed bool) {
	select {
	case <-t.ctx.Done():
		return true
	case <-time.After(20 * time.Millisecond):
		return false
	}
}
