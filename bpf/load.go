// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"

	"tacit/bpf/layout"
	"tacit/bpf/pinfs"
)

// Config says where the programs are attached and what they start with.
type Config struct {
	PinDir         string       // in a bpffs, which is mounted where there is none
	Cgroup         string       // root of the cgroup v2 tree to hook
	Depth          uint32       // levels of Cgroup below the root of the tree
	DaemonCgroup   uint64       // id of the daemon's cgroup, which is exempt
	Range4, Range6 netip.Prefix // virtual addresses
	DefaultAllow   bool         // the verdict where no intention matches
	Limits         Limits       // 0: the capacity in maps.h
}

// Limits are the capacities of maps, in entries.
type Limits struct{ Intentions, Workloads, Origins uint32 }

// Objects are open handles of the programs and maps. All are pinned, so closing
// the handles detaches nothing and drops no entry.
type Objects struct {
	conf  Config
	mesh  meshObjects
	netns uint64
	written
}

// originShare is the divisor of the capacity of the map origins that gives the
// entries one source may have.
const originShare = 4

// ErrLayout: a pinned map has another layout than this version's, and can't be carried over.
var ErrLayout = errors.New("the pinned maps have another layout")

// Load loads the programs, takes over the maps pinned by an earlier daemon, and
// attaches the programs. A link that is pinned gets the new program in one step,
// so that no connection goes unjudged. The network namespace is the calling
// thread's. A pinned map of another layout is replaced by one with the same entries once
// all programs use that one; where this can't be done, an error wraps ErrLayout. A pinned
// map that this version doesn't have stays until Remove.
func Load(c Config) (*Objects, error) {
	if err := pinfs.Ensure(c.PinDir); err != nil {
		return nil, err
	}
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("remove the memory lock limit for eBPF: %w", err)
	}
	o := &Objects{conf: c, written: written{pins: map[string]pinfs.File{}}}
	var err error
	if o.netns, err = netnsCookie(); err != nil {
		return nil, err
	}
	if err := o.load(); err != nil {
		return nil, err
	}
	if err := o.configure(); err != nil {
		return nil, errors.Join(err, o.Close())
	}
	if err := errors.Join(o.attach(), o.pinMaps()); err != nil {
		return nil, errors.Join(err, o.Close())
	}
	return o, nil
}

func (o *Objects) load() error {
	spec, err := loadMesh()
	if err != nil {
		return fmt.Errorf("read the compiled eBPF programs: %w", err)
	}
	o.conf.Limits.apply(spec)
	carried, err := layout.Carry(spec, o.conf.PinDir, "origins", "usage", "direct", "sockets")
	if err == nil {
		err = spec.LoadAndAssign(&o.mesh, &ebpf.CollectionOptions{Maps: ebpf.MapOptions{PinPath: o.conf.PinDir}, MapReplacements: carried})
		err = errors.Join(err, carried.Close())
	}
	if errors.Is(err, ebpf.ErrMapIncompatible) {
		return fmt.Errorf("%w (made by another version or with other --max-… settings): %w: run tacitd cleanup first", ErrLayout, err)
	}
	if err != nil {
		return fmt.Errorf("load eBPF programs: %w", err)
	}
	return nil
}

func (l Limits) apply(spec *ebpf.CollectionSpec) {
	for name, n := range map[string]uint32{"intentions": l.Intentions, "workloads": l.Workloads, "origins": l.Origins} {
		if n != 0 {
			spec.Maps[name].MaxEntries = n
		}
	}
}

// configure writes the settings before any program is attached. It keeps the
// revision, listeners and exclusions of an earlier daemon.
func (o *Objects) configure() error {
	old, err := o.readSettings()
	if err != nil {
		return err
	}
	s := meshConfig{DaemonCgroup: o.conf.DaemonCgroup, Netns: o.netns, Revision: old.Revision, RootLevel: o.conf.Depth,
		Listen4: old.Listen4, Listen6: old.Listen6, DefaultAction: action(o.conf.DefaultAllow), Exclusions: old.Exclusions}
	s.Capacity, s.Quota = o.Connecting()
	s.Virtual4, s.Mask4 = range4(o.conf.Range4)
	s.Virtual6, s.Mask6 = range6(o.conf.Range6)
	return o.putSettings(s)
}

func (o *Objects) readSettings() (meshConfig, error) {
	var s meshConfig
	if err := o.mesh.Settings.Lookup(uint32(0), &s); err != nil {
		return s, fmt.Errorf("map settings: %w", err)
	}
	return s, nil
}

func (o *Objects) putSettings(s meshConfig) error {
	if err := o.mesh.Settings.Put(uint32(0), s); err != nil {
		return fmt.Errorf("map settings: %w", err)
	}
	o.settings = &s
	return nil
}

// change applies f to the settings that this process wrote last, and writes them:
// changes by another process are overwritten.
func (o *Objects) change(f func(*meshConfig)) (meshConfig, error) {
	o.writing.Lock()
	defer o.writing.Unlock()
	s := *o.settings
	f(&s)
	return s, o.putSettings(s)
}

// SetDaemonCgroup sets the cgroup of the daemon, which is exempt.
func (o *Objects) SetDaemonCgroup(id uint64) error {
	_, err := o.change(func(s *meshConfig) { s.DaemonCgroup = id })
	return err
}

// SetDefault sets the verdict where no intention matches.
func (o *Objects) SetDefault(allow bool) error {
	_, err := o.change(func(s *meshConfig) { s.DefaultAction = action(allow) })
	return err
}

// Default returns the verdict where no intention matches.
func (o *Objects) Default() (allow bool, err error) {
	s, err := o.readSettings()
	return s.DefaultAction == meshActionACTION_ALLOW, err
}

// Revision counts the changes to the maps, over restarts too.
func (o *Objects) Revision() (uint64, error) {
	s, err := o.readSettings()
	return s.Revision, err
}

// Bump counts one more change and returns the new revision.
func (o *Objects) Bump() (uint64, error) {
	s, err := o.change(func(s *meshConfig) { s.Revision++ })
	return s.Revision, err
}

// LetGo closes the handles of the links. The programs go on by their pins; those whose
// pins another process has replaced by its own are detached.
func (o *Objects) LetGo() error {
	o.repairing.Lock()
	defer o.repairing.Unlock()
	var errs []error
	for _, h := range o.links {
		errs = append(errs, h.link.Close())
	}
	o.links = nil
	return errors.Join(errs...)
}

// Close closes the handles. The pins keep programs and maps in force.
func (o *Objects) Close() error { return errors.Join(o.LetGo(), o.mesh.Close()) }

// Remove unpins everything in pinDir, which detaches the programs and frees the
// maps, of other versions too. A missing folder is no error.
func Remove(pinDir string) error {
	entries, err := os.ReadDir(pinDir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("pinned programs: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if !e.Type().IsRegular() || !strings.HasSuffix(e.Name(), ".debug") { // the kernel makes these in the root of a bpffs
			errs = append(errs, os.Remove(filepath.Join(pinDir, e.Name())))
		}
	}
	return errors.Join(append(errs, pinfs.Remove(pinDir))...)
}

// Probe loads the programs without attaching or pinning anything. An error says
// why this kernel refuses them.
func Probe() error {
	spec, err := loadMesh()
	if err != nil {
		return fmt.Errorf("read the compiled eBPF programs: %w", err)
	}
	for _, m := range spec.Maps {
		m.Pinning = ebpf.PinNone
	}
	var mesh meshObjects
	if err := errors.Join(rlimit.RemoveMemlock(), spec.LoadAndAssign(&mesh, nil)); err != nil {
		return fmt.Errorf("load eBPF programs: %w", err)
	}
	return mesh.Close()
}
