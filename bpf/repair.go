// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"sync"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"tacit/bpf/pinfs"
	"tacit/policy/shortage"
)

// Repaired is an object that another process has changed. Where Err is nil it is
// restored.
type Repaired struct {
	Object string // "hook connect4", "map settings"
	Found  string // "detached", "unpinned", ...
	Err    error
}

// written is what this process has attached, pinned and written, for Repair to
// compare with the kernel.
type written struct {
	repairing sync.Mutex // guards all of this
	links     []*hook
	pins      map[string]pinfs.File // by path, as last seen to be correct
	listeners [meshListenerLISTENER_COUNT]listener
	asked     map[netip.Addr]netip.AddrPort
	answers   map[netip.AddrPort]netip.Addr

	writing  sync.Mutex  // guards settings
	settings *meshConfig // as written last
}

// listener is a socket of the daemon. The cookie tells whether the descriptor was
// reused for another socket.
type listener struct {
	fd     int
	cookie uint64 // 0: none
}

// Repair compares every program, pin and map that this package writes with the
// kernel, restores what another process has changed, and returns what that was. A
// link is attached before its pin is replaced, so that repairing a pin detaches
// nothing. It takes some hundred microseconds. The maps that a State fills are
// verified by policy/kernel.
func (o *Objects) Repair() []Repaired {
	o.repairing.Lock()
	defer o.repairing.Unlock()
	var out []Repaired
	note := func(object, found string, err error) {
		if found != "" || err != nil {
			out = append(out, Repaired{object, found, err})
		}
	}
	for _, h := range o.links {
		found, err := o.repairHook(h)
		note("hook "+h.name, found, err)
	}
	for _, p := range o.mapPins() {
		found, err := o.repairPin(p)
		note("map "+filepath.Base(p.path), found, err)
	}
	found, err := o.repairSettings()
	note("map settings", found, err)
	found, err = o.repairListeners()
	note("map listeners", found, err)
	found, err = o.repairResolvers()
	note("map resolvers", found, err)
	return out
}

func (o *Objects) repairHook(h *hook) (found string, err error) {
	if err := o.inPlace(h.link); shortage.Is(err) {
		return "", err
	} else if err != nil {
		found = ErrDetached.Error()
		if errors.Is(err, ErrDying) {
			found = ErrDying.Error()
		}
		return found, o.attachAnew(h)
	}
	if err := h.holds(h.link); errors.Is(err, errOtherProgram) {
		return errOtherProgram.Error(), h.link.Update(h.prog)
	} else if err != nil {
		return "", err
	}
	return o.repairPin(o.linkPin(h))
}

func (o *Objects) repairSettings() (found string, err error) {
	o.writing.Lock()
	defer o.writing.Unlock()
	if o.settings == nil {
		return "", nil
	}
	have, err := o.readSettings()
	if err != nil || have == *o.settings {
		return "", err
	}
	return "changed by others", o.putSettings(*o.settings)
}

// repairListeners puts the listeners into the map again where it has others or
// none. A listener that is closed is an error.
func (o *Objects) repairListeners() (found string, err error) {
	for i, l := range o.listeners {
		if l.cookie == 0 {
			continue
		}
		var have uint64
		err := o.mesh.Listeners.Lookup(uint32(i), &have)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return found, fmt.Errorf("map listeners: %w", err)
		}
		if have == l.cookie {
			continue
		}
		found = "changed by others"
		if now, err := cookieOf(l.fd); err != nil || now != l.cookie {
			return found, errors.New("the daemon's listener is closed")
		}
		if err := o.mesh.Listeners.Put(uint32(i), uint64(l.fd)); err != nil {
			return found, fmt.Errorf("map listeners: put a socket of the daemon: %w", err)
		}
	}
	return found, nil
}

func cookieOf(fd int) (uint64, error) {
	return unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
}

func (o *Objects) repairResolvers() (found string, err error) {
	if o.asked == nil {
		return "", nil
	}
	asked, err := o.resolvers().All()
	answers, err2 := o.answered().All()
	if err := errors.Join(err, err2); err != nil {
		return "", err
	}
	if maps.Equal(asked, o.asked) && maps.Equal(answers, o.answers) {
		return "", nil
	}
	return "changed by others", errors.Join(replace(o.answered(), o.answers), replace(o.resolvers(), o.asked))
}
