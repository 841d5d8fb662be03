// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// hook is one attached program.
type hook struct {
	name   string
	prog   *ebpf.Program
	attach ebpf.AttachType
	link   link.Link
}

// hooks lists the programs in the order of attaching: what later ones rely on
// comes first, and connect, which lets connections in, comes last.
func (o *Objects) hooks() []*hook {
	m := &o.mesh
	return []*hook{
		{name: "lookup", prog: m.MeshLookup, attach: ebpf.AttachSkLookup},
		{name: "egress", prog: m.MeshEgress, attach: ebpf.AttachCGroupInetEgress},
		{name: "sock_create", prog: m.MeshCreate, attach: ebpf.AttachCGroupInetSockCreate},
		{name: "sock_release", prog: m.MeshRelease, attach: ebpf.AttachCgroupInetSockRelease},
		{name: "post_bind4", prog: m.MeshBind4, attach: ebpf.AttachCGroupInet4PostBind},
		{name: "post_bind6", prog: m.MeshBind6, attach: ebpf.AttachCGroupInet6PostBind},
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
	for _, h := range o.hooks() {
		if err := o.attachOne(h); err != nil {
			return fmt.Errorf("attach %s: %w", h.name, err)
		}
		o.links[h.name] = h
	}
	return nil
}

func (o *Objects) linkPath(name string) string { return filepath.Join(o.conf.PinDir, "link_"+name) }

// attachOne updates the pinned link where it is still about our cgroup or
// namespace, and makes and pins a new one otherwise.
func (o *Objects) attachOne(h *hook) error {
	old, err := link.LoadPinnedLink(o.linkPath(h.name), nil)
	if err == nil && o.inPlace(old) == nil {
		h.link = old
		return old.Update(h.prog)
	}
	if err == nil {
		if err := errors.Join(old.Unpin(), old.Close()); err != nil {
			return err
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if h.attach == ebpf.AttachSkLookup {
		h.link, err = attachNetNS(h.prog)
	} else {
		h.link, err = link.AttachCgroup(link.CgroupOptions{Path: o.conf.Cgroup, Attach: h.attach, Program: h.prog})
	}
	if err != nil {
		return err
	}
	return h.link.Pin(o.linkPath(h.name))
}

func attachNetNS(prog *ebpf.Program) (link.Link, error) {
	ns, err := os.Open("/proc/thread-self/ns/net")
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

// ErrDetached: a link isn't where it should be.
var ErrDetached = errors.New("detached")

// inPlace says whether the link is attached to our cgroup or namespace.
func (o *Objects) inPlace(l link.Link) error {
	info, err := l.Info()
	if err != nil {
		return err
	}
	if c := info.Cgroup(); c != nil {
		want, err := inode(o.conf.Cgroup)
		if err == nil && c.CgroupId != want {
			err = fmt.Errorf("%w from %s", ErrDetached, o.conf.Cgroup)
		}
		return err
	}
	if n := info.NetNs(); n != nil {
		want, err := inode("/proc/thread-self/ns/net")
		if err == nil && uint64(n.NetnsInode) != want {
			err = fmt.Errorf("%w from this network namespace", ErrDetached)
		}
		return err
	}
	return fmt.Errorf("%w: the link is of another kind", ErrDetached)
}

func inode(path string) (uint64, error) {
	st, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return st.Sys().(*syscall.Stat_t).Ino, nil
}

// Hook is the state of one program, as the kernel tells it.
type Hook struct {
	Name    string
	Problem string // "" when pinned and attached where it should be
}

// Status asks the kernel for each program.
func (o *Objects) Status() ([]Hook, error) {
	var out []Hook
	for _, h := range o.hooks() {
		one := Hook{Name: h.name}
		if err := o.check(h); err != nil {
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
	info, err := l.Info()
	if err != nil {
		return err
	}
	mine, err := h.prog.Info()
	if err != nil {
		return err
	}
	if id, ok := mine.ID(); ok && id != info.Program {
		return errors.New("another program is attached by our link")
	}
	return nil
}
