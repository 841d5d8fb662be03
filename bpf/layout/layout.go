// SPDX-License-Identifier: Apache-2.0

// Package layout makes the maps of this version of the programs from pinned ones of
// another version, or of other settings. It must not know what the maps mean, nor
// change a pin.
package layout

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
)

// Maps are those that were made, by name.
type Maps map[string]*ebpf.Map

// Close closes the handles.
func (m Maps) Close() error {
	var errs []error
	for made := range maps.Values(m) {
		errs = append(errs, made.Close())
	}
	return errors.Join(errs...)
}

// Carry makes a map for each of spec whose pin in dir has another capacity, or longer or
// shorter values, with the same entries: zeros are added, or cut. Those named in keep
// have what belongs to live sockets, which the programs go on to write, and must be the
// same. Errors wrap ebpf.ErrMapIncompatible where a map can't be carried over.
func Carry(spec *ebpf.CollectionSpec, dir string, keep ...string) (Maps, error) {
	out, kept := Maps{}, map[string]bool{}
	for _, name := range keep {
		kept[name] = true
	}
	for name, m := range spec.Maps {
		if m.Pinning != ebpf.PinByName {
			continue
		}
		made, err := carry(m, filepath.Join(dir, name), kept[name])
		if err != nil {
			return nil, errors.Join(fmt.Errorf("map %s: %w", name, err), out.Close())
		}
		if made != nil {
			out[name] = made
		}
	}
	return out, nil
}

// carry returns nil where there is no pin, or its map can be used as it is.
func carry(spec *ebpf.MapSpec, path string, keep bool) (*ebpf.Map, error) {
	old, err := ebpf.LoadPinnedMap(path, nil)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer old.Close()
	differs := spec.Compatible(old)
	if differs == nil {
		return nil, nil
	}
	if keep || old.Type() != spec.Type || old.KeySize() != spec.KeySize || !entered(spec.Type) {
		return nil, differs
	}
	fresh := spec.Copy()
	fresh.Pinning = ebpf.PinNone
	made, err := ebpf.NewMap(fresh)
	if err != nil {
		return nil, err
	}
	if err := fill(made, old); err != nil {
		return nil, errors.Join(err, made.Close())
	}
	return made, nil
}

// entered are the types whose entries this process writes.
func entered(t ebpf.MapType) bool {
	return t == ebpf.Hash || t == ebpf.LPMTrie || t == ebpf.Array
}

func fill(to, from *ebpf.Map) error {
	var key, value []byte
	all := from.Iterate()
	for all.Next(&key, &value) {
		size := int(to.ValueSize())
		for i := size; i < len(value); i++ {
			if value[i] != 0 {
				return fmt.Errorf("%w: an entry says what this version doesn't know", ebpf.ErrMapIncompatible)
			}
		}
		fitting := make([]byte, size)
		copy(fitting, value)
		if err := to.Put(key, fitting); err != nil {
			return fmt.Errorf("%w: entry of the present map: %w", ebpf.ErrMapIncompatible, err)
		}
	}
	return all.Err()
}
