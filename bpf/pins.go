// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"tacit/bpf/pinfs"
	"tacit/policy/shortage"
)

// pinned is an object and the place of its pin.
type pinned struct {
	path string
	id   func() (uint32, error)       // of the object
	at   func(string) (uint32, error) // of the object that is pinned at a path
	pin  func(string) error
}

// repairPin restores a pin that was removed or replaced, and says what it found.
// It remembers the inode of a correct pin, since stat costs less than opening it.
func (o *Objects) repairPin(p pinned) (found string, err error) {
	now, statErr := pinfs.Stat(p.path)
	if statErr == nil && o.pins[p.path] == now {
		return "", nil
	}
	mine, err := p.id()
	if err != nil {
		return "", err
	}
	there, err := p.at(p.path)
	switch {
	case err == nil && there == mine:
		o.pins[p.path] = now
		return "", nil
	case shortage.Is(err):
		return "", err // what is pinned there is unknown
	case errors.Is(err, os.ErrNotExist):
		found = "unpinned"
	default:
		found = "another object was pinned in its place"
	}
	if err := pinfs.Ensure(o.conf.PinDir); err != nil {
		return found, err
	}
	return found, pinfs.Replace(p.path, p.pin)
}

// linkPin returns the pin of a hook's link.
func (o *Objects) linkPin(h *hook) pinned {
	return pinned{
		path: o.linkPath(h.name),
		id:   func() (uint32, error) { return linkID(h.link) },
		at: func(path string) (uint32, error) {
			l, err := link.LoadPinnedLink(path, nil)
			if err != nil {
				return 0, err
			}
			defer l.Close()
			return linkID(l)
		},
		pin: func(path string) error {
			l, err := linkAgain(h.link) // a handle that is pinned can be pinned nowhere else
			if err != nil {
				return err
			}
			return errors.Join(l.Pin(path), l.Close())
		},
	}
}

func linkID(l link.Link) (uint32, error) {
	info, err := l.Info()
	if err != nil {
		return 0, err
	}
	return uint32(info.ID), nil
}

func linkAgain(l link.Link) (link.Link, error) {
	id, err := linkID(l)
	if err != nil {
		return nil, err
	}
	return link.NewFromID(link.ID(id))
}

// mapPins returns the pins of all maps, whose names are tags of the generated struct.
func (o *Objects) mapPins() []pinned {
	var out []pinned
	v := reflect.ValueOf(o.mesh.meshMaps)
	for i := range v.NumField() {
		name := v.Type().Field(i).Tag.Get("ebpf")
		m, ok := v.Field(i).Interface().(*ebpf.Map)
		if !ok || name == "" || strings.HasPrefix(name, ".") {
			continue
		}
		out = append(out, pinned{
			path: filepath.Join(o.conf.PinDir, name),
			id:   func() (uint32, error) { return mapID(m) },
			at: func(path string) (uint32, error) {
				other, err := ebpf.LoadPinnedMap(path, nil)
				if err != nil {
					return 0, err
				}
				defer other.Close()
				return mapID(other)
			},
			pin: func(path string) error {
				again, err := m.Clone()
				if err != nil {
					return err
				}
				return errors.Join(again.Pin(path), again.Close())
			},
		})
	}
	return out
}

// pinMaps pins the maps that are used in place of those of another layout.
func (o *Objects) pinMaps() error {
	var errs []error
	for _, p := range o.mapPins() {
		_, err := o.repairPin(p)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func mapID(m *ebpf.Map) (uint32, error) {
	info, err := m.Info()
	if err != nil {
		return 0, err
	}
	id, ok := info.ID()
	if !ok {
		return 0, errors.New("the kernel returns no map ids")
	}
	return uint32(id), nil
}
