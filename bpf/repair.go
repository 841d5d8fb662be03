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
)

// Repaired is something that others had changed. It is as it was again or, with
// Err, it isn't.
type Repaired struct {
	Object string // "hook connect4", "map settings"
	Found  string // "detached", "unpinned", ...
	Err    error
}

// mine is what we have made and written, to compare with what is there.
type mine struct {
	repairing sync.Mutex // guards all of this
	links     []*hook
	pins      map[string]file // seen to be ours
	listeners [6]listener
	asked     map[netip.Addr]netip.AddrPort
	answers   map[netip.AddrPort]netip.Addr

	writing  sync.Mutex  // settings are changed by one at a time
	settings *meshConfig // as written last
}

// listener is a socket of the daemon's: a descriptor can come to mean another.
type listener struct {
	fd     int
	cookie uint64 // 0: none
}

// Repair looks at every program, pin and small map of ours in the kernel, puts
// right what others have changed, and says what that was. A link is attached
// before its pin is replaced, so that nothing goes unjudged for longer than it
// was. It costs some hundred microseconds. The larger maps are policy/kernel's.
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
	if err := o.inPlace(h.link); err != nil {
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

// repairListeners hands the listeners over again where the kernel has others or
// none. A listener that is dead can't be handed over: that is the error.
func (o *Objects) repairListeners() (found string, err error) {
	for i, l := range o.listeners {
		if l.cookie == 0 {
			continue
		}
		var have uint64
		err := o.mesh.Listeners.Lookup(uint32(i), &have)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return found, fmt.Errorf("listeners map: %w", err)
		}
		if have == l.cookie {
			continue
		}
		found = "changed by others"
		if now, err := cookieOf(l.fd); err != nil || now != l.cookie {
			return found, errors.New("the daemon's listener is gone")
		}
		if err := o.mesh.Listeners.Put(uint32(i), uint64(l.fd)); err != nil {
			return found, fmt.Errorf("hand the listener to the kernel: %w", err)
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
