// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"tacit/bpf/pinfs"
)

// Pin is an object that Load pins, and what is at its path now.
type Pin struct {
	Path    string
	Hook    string // name and attach type of a program; "" for a map
	Where   string // what a program is attached to
	Present bool
	Problem string // why Load attaches a pinned program anew
}

// Hooks lists the programs in the order of attaching, each with its attach type.
func Hooks() []string {
	var out []string
	for _, h := range new(Objects).hooks() {
		out = append(out, h.about())
	}
	return out
}

func (h *hook) about() string { return fmt.Sprintf("%s (%s)", h.name, h.attach) }

// Pins lists what Load would pin: first the maps, then the programs in the order
// of attaching. It changes nothing.
func Pins(c Config) ([]Pin, error) {
	spec, err := loadMesh()
	if err != nil {
		return nil, fmt.Errorf("read the compiled eBPF programs: %w", err)
	}
	o := &Objects{conf: c}
	var out []Pin
	for _, m := range spec.Maps {
		if m.Pinning == ebpf.PinByName {
			path := filepath.Join(c.PinDir, m.Name)
			out = append(out, Pin{Path: path, Present: pinfs.Exists(path)})
		}
	}
	slices.SortFunc(out, func(a, b Pin) int { return strings.Compare(a.Path, b.Path) })
	for _, h := range o.hooks() {
		out = append(out, o.pin(h))
	}
	return out, nil
}

func (o *Objects) pin(h *hook) Pin {
	p := Pin{Path: o.linkPath(h.name), Hook: h.about(), Where: "the cgroup " + o.conf.Cgroup}
	switch h.attach {
	case ebpf.AttachSkLookup:
		p.Where = "this network namespace"
	case ebpf.AttachNetfilter:
		p.Where = "what leaves this network namespace"
	}
	l, err := link.LoadPinnedLink(p.Path, &ebpf.LoadPinOptions{ReadOnly: true})
	if errors.Is(err, os.ErrNotExist) {
		return p
	}
	p.Present = true
	if err == nil {
		err = errors.Join(o.inPlace(l), l.Close())
	}
	if err != nil {
		p.Problem = err.Error()
	}
	return p
}
