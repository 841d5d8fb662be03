// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"tacit/bpf/pinfs"
	"tacit/policy/shortage"
)

// hook is one attached program.
type hook struct {
	name   string
	prog   *ebpf.Program
	attach ebpf.AttachType
	family link.NetfilterProtocolFamily // of a netfilter program
	link   link.Link                    // set once attached
}

// hooks lists the programs in the order of attaching. Each comes after those that
// it relies on, so connect, which allows connections, comes last.
func (o *Objects) hooks() []*hook {
	m := &o.mesh
	return []*hook{
		{name: "lookup", prog: m.MeshLookup, attach: ebpf.AttachSkLookup},
		{name: "leaving4", prog: m.MeshLeaving, attach: ebpf.AttachNetfilter, family: link.NetfilterProtoIPv4},
		{name: "leaving6", prog: m.MeshLeaving, attach: ebpf.AttachNetfilter, family: link.NetfilterProtoIPv6},
		{name: "egress", prog: m.MeshEgress, attach: ebpf.AttachCGroupInetEgress},
		{name: "ingress", prog: m.MeshIngress, attach: ebpf.AttachCGroupInetIngress},
		{name: "sock_create", prog: m.MeshCreate, attach: ebpf.AttachCGroupInetSockCreate},
		{name: "sock_release", prog: m.MeshRelease, attach: ebpf.AttachCgroupInetSockRelease},
		{name: "bind4", prog: m.MeshBind4, attach: ebpf.AttachCGroupInet4Bind},
		{name: "bind6", prog: m.MeshBind6, attach: ebpf.AttachCGroupInet6Bind},
		{name: "connect_unix", prog: m.MeshUnix, attach: ebpf.AttachCgroupUnixConnect},
		{name: "sockops", prog: m.MeshSockops, attach: ebpf.AttachCGroupSockOps},
		{name: "getpeername4", prog: m.MeshPeername4, attach: ebpf.AttachCgroupInet4GetPeername},
		{name: "getpeername6", prog: m.MeshPeername6, attach: ebpf.AttachCgroupInet6GetPeername},
		{name: "recvmsg4", prog: m.MeshRecvmsg4, attach: ebpf.AttachCGroupUDP4Recvmsg},
		{name: "recvmsg6", prog: m.MeshRecvmsg6, attach: ebpf.AttachCGroupUDP6Recvmsg},
		{name: "sendmsg4", prog: m.MeshSendmsg4, attach: ebpf.AttachCGroupUDP4Sendmsg},
		{name: "sendmsg6", prog: m.MeshSendmsg6, attach: ebpf.AttachCGroupUDP6Sendmsg},
		{name: "connect4", prog: m.MeshConnect4, attach: ebpf.AttachCGroupInet4Connect},
		{name: "connect6", prog: m.MeshConnect6, attach: ebpf.AttachCGroupInet6Connect},
	}
}

func (o *Objects) attach() error {
	o.repairing.Lock()
	defer o.repairing.Unlock()
	for _, h := range o.hooks() {
		if err := o.attachOne(h); err != nil {
			return fmt.Errorf("attach %s: %w", h.name, err)
		}
		o.links = append(o.links, h)
	}
	return nil
}

func (o *Objects) linkPath(name string) string { return filepath.Join(o.conf.PinDir, "link_"+name) }

// attachOne updates the pinned link where it is on the right cgroup or network
// namespace, else it makes and pins a new link.
func (o *Objects) attachOne(h *hook) error {
	old, err := link.LoadPinnedLink(o.linkPath(h.name), nil)
	if err == nil && h.attach != ebpf.AttachNetfilter && o.inPlace(old) == nil {
		h.link = old
		return old.Update(h.prog)
	}
	if err == nil {
		defer old.Close()
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return o.attachAnew(h)
}

// attachAnew makes a link, and replaces the pin by that of the new link.
func (o *Objects) attachAnew(h *hook) error {
	fresh, err := o.newLink(h)
	if err != nil {
		return err
	}
	if h.link != nil {
		_ = h.link.Close()
	}
	h.link = fresh
	return pinfs.Replace(o.linkPath(h.name), fresh.Pin)
}

func (o *Objects) newLink(h *hook) (link.Link, error) {
	switch h.attach {
	case ebpf.AttachSkLookup:
		return attachNetNS(h.prog)
	case ebpf.AttachNetfilter:
		return attachLeaving(h)
	}
	return link.AttachCgroup(link.CgroupOptions{Path: o.conf.Cgroup, Attach: h.attach, Program: h.prog})
}

// Priorities before all tables of iptables. No two programs can have the same one,
// and a new program is attached before the old one is detached, so there are two.
var leavingPriorities = [...]int32{-310, -309}

func attachLeaving(h *hook) (l link.Link, err error) {
	for _, p := range leavingPriorities {
		l, err = link.AttachNetfilter(link.NetfilterOptions{Program: h.prog, ProtocolFamily: h.family,
			Hook: link.NetfilterInetPostRouting, Priority: p})
		if err == nil {
			return l, nil
		}
	}
	return nil, err
}

func attachNetNS(prog *ebpf.Program) (link.Link, error) {
	ns, err := os.Open(ownNetNS)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	l, err := link.AttachNetNs(int(ns.Fd()), prog)
	if err != nil {
		return nil, err
	}
	return l, nil
}

const ownNetNS = "/proc/thread-self/ns/net"

// Errors about where a link is attached.
var (
	ErrDetached = errors.New("detached")
	ErrDying    = errors.New("attached to a cgroup or network namespace that is not the present one")
)

// inPlace returns an error where the link isn't attached to the hooked cgroup or to
// the calling thread's network namespace.
func (o *Objects) inPlace(l link.Link) error {
	info, err := l.Info()
	if err != nil {
		return err
	}
	if info.Netfilter() != nil {
		return nil // link info doesn't have the network namespace
	}
	has, place := uint64(0), ownNetNS
	if c := info.Cgroup(); c != nil {
		has, place = c.CgroupId, o.conf.Cgroup
	} else if n := info.NetNs(); n != nil {
		has = uint64(n.NetnsInode)
	}
	if has == 0 { // or a link of another type
		return ErrDetached
	}
	var want unix.Stat_t
	if err := unix.Stat(place, &want); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrDying, place, err)
	}
	if has != want.Ino {
		return fmt.Errorf("%w: not on %s", ErrDying, place)
	}
	return nil
}

// Hook is the state of one program, as the kernel reports it.
type Hook struct {
	Name    string
	Problem string   // "" where it is pinned, attached and effective
	Others  []string // other programs that run at the same hook
}

// Status asks the kernel for each program. The error says why that isn't possible.
func (o *Objects) Status() ([]Hook, error) {
	o.repairing.Lock()
	defer o.repairing.Unlock()
	at, err := o.openPlaces()
	if err != nil {
		return nil, err
	}
	defer at.close()
	var out []Hook
	for _, h := range o.links {
		one := Hook{Name: h.name}
		err := o.check(h)
		if err == nil {
			one.Others, err = at.others(h)
		}
		if shortage.Is(err) {
			return nil, err
		}
		if err != nil {
			one.Problem = err.Error()
		}
		out = append(out, one)
	}
	return out, nil
}

func (o *Objects) check(h *hook) error {
	l, err := link.LoadPinnedLink(o.linkPath(h.name), nil)
	if err != nil {
		return fmt.Errorf("not pinned: %w", err)
	}
	defer l.Close()
	if err := o.inPlace(l); err != nil {
		return err
	}
	return h.holds(l)
}

var errOtherProgram = errors.New("its link runs another program")

// holds returns errOtherProgram where the link doesn't run the hook's program.
func (h *hook) holds(l link.Link) error {
	info, err := l.Info()
	if err != nil {
		return err
	}
	mine, err := programID(h.prog)
	if err == nil && mine != info.Program {
		err = errOtherProgram
	}
	return err
}

func programID(p *ebpf.Program) (ebpf.ProgramID, error) {
	info, err := p.Info()
	if err != nil {
		return 0, err
	}
	id, ok := info.ID()
	if !ok {
		return 0, errors.New("the kernel returns no program ids")
	}
	return id, nil
}
