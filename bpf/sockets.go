// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// Resolver is one of the host's, and where its queries go on loopback.
type Resolver struct {
	Addr         netip.Addr
	Port4, Port6 uint16 // on 127.0.0.1 and ::1
}

// SetListeners hands the daemon's listeners to the program that assigns
// captured connections; fd6 below 0 is none. Entries go when the sockets do.
func (o *Objects) SetListeners(fd4, fd6 int, port4, port6 uint16) error {
	for i, fd := range []int{fd4, fd6} {
		if fd < 0 {
			continue
		}
		if err := o.mesh.Listeners.Put(uint32(i), uint64(fd)); err != nil {
			return fmt.Errorf("hand the listener to the kernel: %w", err)
		}
	}
	s, err := o.settings()
	if err != nil {
		return err
	}
	s.Listen4, s.Listen6 = port4, port6
	return o.putSettings(s)
}

// SetResolvers makes the captured resolvers equal to list.
func (o *Objects) SetResolvers(list []Resolver) error {
	byAddr := table("resolvers", o.mesh.Resolvers, addresses(), form[[2]uint16, meshResolverValue]{
		func(p [2]uint16) meshResolverValue {
			return meshResolverValue{Port4: swap(p[0]), Port6: swap(p[1])}
		},
		func(v meshResolverValue) [2]uint16 { return [2]uint16{swap(v.Port4), swap(v.Port6)} },
	})
	byPort := table("resolver_ports", o.mesh.ResolverPorts, form[uint16, uint32]{
		func(p uint16) uint32 { return uint32(swap(p)) },
		func(k uint32) uint16 { return swap(uint16(k)) },
	}, addresses())
	addrs, ports := map[netip.Addr][2]uint16{}, map[uint16]netip.Addr{}
	for _, r := range list {
		addrs[r.Addr] = [2]uint16{r.Port4, r.Port6}
		for _, p := range []uint16{r.Port4, r.Port6} {
			if p != 0 {
				ports[p] = r.Addr
			}
		}
	}
	return errors.Join(replace(byPort, ports), replace(byAddr, addrs))
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
