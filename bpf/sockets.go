// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// Resolver is one of the host's, and where its queries go: those to an IPv4
// address to 127.0.0.1:Port4, those to an IPv6 one to [::1]:Port6. 0 is nowhere.
type Resolver struct {
	Addr         netip.Addr
	Port4, Port6 uint16
}

// Socket is one of the daemon's sockets; 0 is none.
type Socket struct {
	FD   int
	Port uint16
}

// Listeners are the daemon's sockets for IPv4 and IPv6: for captured
// connections, and for what other network namespaces ask the host's resolvers.
type Listeners struct{ Proxy, NamesUDP, NamesTCP [2]Socket }

// SetListeners hands the daemon's listeners to the program that assigns what
// is captured. Entries go when the sockets do.
func (o *Objects) SetListeners(l Listeners) error {
	o.repairing.Lock()
	defer o.repairing.Unlock()
	for i, one := range slices.Concat(l.Proxy[:], l.NamesUDP[:], l.NamesTCP[:]) {
		if one.FD == 0 {
			continue
		}
		if err := o.mesh.Listeners.Put(uint32(i), uint64(one.FD)); err != nil {
			return fmt.Errorf("hand the listener to the kernel: %w", err)
		}
		cookie, err := cookieOf(one.FD)
		if err != nil {
			return fmt.Errorf("the listener's cookie: %w", err)
		}
		o.listeners[i] = listener{one.FD, cookie}
	}
	_, err := o.change(func(s *meshConfig) { s.Listen4, s.Listen6 = l.Proxy[0].Port, l.Proxy[1].Port })
	return err
}

// SetResolvers makes the captured resolvers equal to list.
func (o *Objects) SetResolvers(list []Resolver) error {
	asked, answers := map[netip.Addr]netip.AddrPort{}, map[netip.AddrPort]netip.Addr{}
	for _, r := range list {
		ours := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), r.Port4)
		if r.Addr.Unmap().Is6() {
			ours = netip.AddrPortFrom(netip.IPv6Loopback(), r.Port6)
		}
		if ours.Port() == 0 {
			continue
		}
		asked[r.Addr.Unmap().WithZone("")], answers[ours] = ours, r.Addr.Unmap().WithZone("")
	}
	o.repairing.Lock()
	defer o.repairing.Unlock()
	o.asked, o.answers = asked, answers
	return errors.Join(replace(o.answered(), answers), replace(o.resolvers(), asked))
}

func (o *Objects) answered() Table[netip.AddrPort, netip.Addr] {
	return table("answers", o.mesh.Answers, endpoints(), addresses())
}

func (o *Objects) resolvers() Table[netip.Addr, netip.AddrPort] {
	return table("resolvers", o.mesh.Resolvers, addresses(), endpoints())
}

func replace[K, V comparable](t Table[K, V], want map[K]V) error {
	have, err := t.All()
	if err != nil {
		return err
	}
	var errs []error
	for k, v := range want {
		if old, ok := have[k]; !ok || old != v {
			errs = append(errs, t.Put(k, v))
		}
		delete(have, k)
	}
	for k := range have {
		errs = append(errs, t.Delete(k))
	}
	return errors.Join(errs...)
}

// Tag marks the socket fd, before it connects, as one that carries the proven
// source to a program of destination on this node.
func (o *Objects) Tag(fd int, source, destination uint32) error {
	key, err := socketKey(fd)
	if err != nil {
		return err
	}
	state := meshSockState{Source: source, Destination: destination, Mode: meshModeMODE_TAG}
	if err := o.mesh.Sockets.Put(key, state); err != nil {
		return fmt.Errorf("tag the socket: %w", err)
	}
	return nil
}

// ErrNoOrigin: the socket is not the daemon's end of a captured connection.
var ErrNoOrigin = errors.New("the kernel knows no origin")

// Origin returns who made the captured connection whose accepted end is fd.
func (o *Objects) Origin(fd int) (Pair, error) {
	key, err := socketKey(fd)
	if err != nil {
		return Pair{}, err
	}
	var s meshSockState
	err = o.mesh.Sockets.Lookup(key, &s)
	if errors.Is(err, ebpf.ErrKeyNotExist) || (err == nil && s.Mode != meshModeMODE_ACCEPTED) {
		return Pair{}, ErrNoOrigin
	}
	if err != nil {
		return Pair{}, fmt.Errorf("origin: %w", err)
	}
	return Pair{s.Source, s.Destination}, nil
}

func socketKey(fd int) (uint32, error) {
	if fd < 0 || fd > math.MaxInt32 {
		return 0, fmt.Errorf("descriptor %d: out of range", fd)
	}
	return uint32(fd), nil
}

// Sweep cuts the same-node connections, in the calling thread's network
// namespace, that the maps no longer allow, and returns how many.
func (o *Objects) Sweep(ctx context.Context) (int, error) {
	it, err := link.AttachIter(link.IterOptions{Program: o.mesh.MeshSweep})
	if err != nil {
		return 0, fmt.Errorf("sweep: %w", err)
	}
	defer it.Close()
	r, err := it.Open()
	if err != nil {
		return 0, fmt.Errorf("sweep: %w", err)
	}
	defer r.Close()
	cut, buf := 0, make([]byte, 4096)
	for ctx.Err() == nil {
		n, err := r.Read(buf)
		cut += n
		if errors.Is(err, io.EOF) || (err == nil && n == 0) {
			return cut, nil
		}
		if err != nil {
			return cut, fmt.Errorf("sweep: %w", err)
		}
	}
	return cut, ctx.Err()
}

// Decide runs the kernel's decision on a pair: for tests that compare it.
func (o *Objects) Decide(p Pair) (Reason, error) {
	code, err := o.mesh.MeshDecide.Run(&ebpf.RunOptions{Context: meshPair{Source: p.Source, Destination: p.Destination}})
	return Reason(code), err
}
