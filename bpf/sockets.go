// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"runtime"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Resolver is a resolver of the host. Queries to an IPv4 address are redirected to
// 127.0.0.1:Port4, queries to an IPv6 address to [::1]:Port6; port 0 leaves them alone.
type Resolver struct {
	Addr         netip.Addr
	Port4, Port6 uint16
}

// Socket is one of the daemon's sockets. The zero value is none.
type Socket struct {
	FD   int
	Port uint16
}

// Listeners are the daemon's sockets, each for IPv4 and IPv6: for captured
// connections, and for DNS queries from other network namespaces to the host's
// resolvers.
type Listeners struct{ Proxy, NamesUDP, NamesTCP [2]Socket }

// each calls f with each socket and its index in the map, until f fails.
func (l Listeners) each(f func(index uint32, s Socket) error) error {
	for first, family := range map[meshListener][2]Socket{
		meshListenerLISTENER_PROXY: l.Proxy, meshListenerLISTENER_NAMES_UDP: l.NamesUDP, meshListenerLISTENER_NAMES_TCP: l.NamesTCP,
	} {
		for i, s := range family {
			if err := f(uint32(first)+uint32(i), s); err != nil {
				return err
			}
		}
	}
	return nil
}

// SetListeners gives the daemon's listeners to the sk_lookup program, which
// assigns captured connections to them. The kernel removes a socket from the map
// when it is closed.
func (o *Objects) SetListeners(l Listeners) error {
	o.repairing.Lock()
	defer o.repairing.Unlock()
	if err := l.each(o.setListener); err != nil {
		return err
	}
	_, err := o.change(func(s *meshConfig) { s.Listen4, s.Listen6 = l.Proxy[0].Port, l.Proxy[1].Port })
	return err
}

func (o *Objects) setListener(index uint32, s Socket) error {
	if s.FD == 0 {
		return nil
	}
	if err := o.mesh.Listeners.Put(index, uint64(s.FD)); err != nil {
		return fmt.Errorf("map listeners: put a socket of the daemon: %w", err)
	}
	cookie, err := cookieOf(s.FD)
	if err != nil {
		return fmt.Errorf("cookie of a listener: %w", err)
	}
	o.listeners[index] = listener{s.FD, cookie}
	return nil
}

// SetResolvers redirects queries for the resolvers of the list, and no others.
func (o *Objects) SetResolvers(list []Resolver) error {
	asked, answers := map[netip.Addr]netip.AddrPort{}, map[netip.AddrPort]netip.Addr{}
	for _, r := range list {
		addr := r.Addr.Unmap().WithZone("")
		listener := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), r.Port4)
		if addr.Is6() {
			listener = netip.AddrPortFrom(netip.IPv6Loopback(), r.Port6)
		}
		if listener.Port() != 0 {
			asked[addr], answers[listener] = listener, addr
		}
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

// Tag is what the connect hook judges a socket of the daemon by: the source, which
// another node has proven, and the destination, of which this node has an instance.
type Tag struct {
	Pair
	Ingress bool // the source is one
	// Owned refuses any listener but one of which the programs know that no other
	// program than the destination's can share its port.
	Owned bool
}

// Tag marks a socket of the daemon before it connects.
func (o *Objects) Tag(fd int, t Tag) error {
	key, err := socketKey(fd)
	if err != nil {
		return err
	}
	state := meshSockState{Source: t.Source, Destination: t.Destination, Mode: meshModeMODE_TAG,
		Ingress: uint16(flag(t.Ingress)), Owned: uint16(flag(t.Owned))}
	if err := storage(o.mesh.Sockets, unix.BPF_MAP_UPDATE_ELEM, &key, &state); err != nil {
		return fmt.Errorf("tag the socket: %w", err)
	}
	return nil
}

// ErrNoOrigin: the socket is not the accepted end of a captured connection.
var ErrNoOrigin = errors.New("the kernel has recorded no origin for this connection")

// Origin returns the services of the captured connection whose accepted end is fd.
func (o *Objects) Origin(fd int) (Pair, error) {
	key, err := socketKey(fd)
	if err != nil {
		return Pair{}, err
	}
	var s meshSockState
	err = storage(o.mesh.Sockets, unix.BPF_MAP_LOOKUP_ELEM, &key, &s)
	if errors.Is(err, unix.ENOENT) || (err == nil && s.Mode != meshModeMODE_ACCEPTED) {
		return Pair{}, ErrNoOrigin
	}
	if err != nil {
		return Pair{}, fmt.Errorf("origin: %w", err)
	}
	return Pair{s.Source, s.Destination}, nil
}

// storage reads or writes what the programs keep of a socket of this process. Each
// connection needs it once or twice. Unlike ebpf.Map it makes no objects and doesn't tell
// Go's scheduler of the call, which never waits.
func storage(m *ebpf.Map, command uintptr, key *uint32, value *meshSockState) error {
	ask := struct { // union bpf_attr of bpf(2), on machines with 64 bits
		fd    uint32
		_     uint32
		key   *uint32
		value *meshSockState
		flags uint64
	}{fd: uint32(m.FD()), key: key, value: value}
	_, _, errno := unix.RawSyscall(unix.SYS_BPF, command, uintptr(unsafe.Pointer(&ask)), unsafe.Sizeof(ask))
	runtime.KeepAlive(m)
	if errno != 0 {
		return errno
	}
	return nil
}

func socketKey(fd int) (uint32, error) {
	if fd < 0 || fd > math.MaxInt32 {
		return 0, fmt.Errorf("descriptor %d: out of range", fd)
	}
	return uint32(fd), nil
}

// Sweep cuts the same-node connections that the maps no longer allow, in the
// calling thread's network namespace, and returns how many it cut.
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
	cut, buf := 0, make([]byte, 4096) // one byte for each connection
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

// Decide runs the kernel's decision on a pair, for tests that compare it with Go's.
func (o *Objects) Decide(p Pair, ingress bool) (Reason, error) {
	code, err := o.mesh.MeshDecide.Run(&ebpf.RunOptions{Context: meshQuestion{Source: p.Source, Destination: p.Destination, Ingress: flag(ingress)}})
	return Reason(code), err
}
