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
)

// Config says where the programs go.
type Config struct {
	PinDir         string       // in a bpffs; made when missing
	Cgroup         string       // root of the cgroup v2 tree to hook
	Depth          uint32       // of that root below the tree's own root
	DaemonCgroup   uint64       // id of the daemon's leaf, which is exempt
	Range4, Range6 netip.Prefix // virtual addresses
	DefaultAllow   bool         // where no intention matches
	Limits         Limits       // 0: as compiled
}

// Limits are numbers of entries, for tests that fill a map up.
type Limits struct{ Intentions, Workloads, Origins uint32 }

// Objects are open handles on the programs and maps. Closing them changes
// nothing in force: everything is pinned.
type Objects struct {
	conf  Config
	mesh  meshObjects
	netns uint64
	mine
}

// originShare: of the map of origins, one workload can take one part in so many.
const originShare = 4

// ErrLayout: what is pinned was made by another version.
var ErrLayout = errors.New("the pinned maps have another layout")

// Load loads the programs, takes over the maps pinned by an earlier daemon,
// and attaches: a link that is pinned already gets the new program in one
// step, so that no connection goes unjudged. The network namespace is the
// calling thread's.
func Load(c Config) (*Objects, error) {
	if err := ensureFS(c.PinDir); err != nil {
		return nil, err
	}
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("memory limit for eBPF: %w", err)
	}
	o := &Objects{conf: c, mine: mine{pins: map[string]file{}}}
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
	if err := o.attach(); err != nil {
		return nil, errors.Join(err, o.Close())
	}
	return o, nil
}

func (o *Objects) load() error {
	spec, err := loadMesh()
	if err != nil {
		return fmt.Errorf("eBPF programs: %w", err)
	}
	o.conf.Limits.apply(spec)
	err = spec.LoadAndAssign(&o.mesh, &ebpf.CollectionOptions{Maps: ebpf.MapOptions{PinPath: o.conf.PinDir}})
	if errors.Is(err, ebpf.ErrMapIncompatible) {
		return fmt.Errorf("%w (of another version, or with other --max-… settings): %w: run tacitd cleanup first", ErrLayout, err)
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

// configure writes the settings before anything is attached. The revision of
// an earlier daemon goes on.
func (o *Objects) configure() error {
	old, err := o.readSettings()
	if err != nil {
		return err
	}
	s := meshConfig{DaemonCgroup: o.conf.DaemonCgroup, Netns: o.netns, Revision: old.Revision, RootLevel: o.conf.Depth,
		Listen4: old.Listen4, Listen6: old.Listen6, DefaultAction: action(o.conf.DefaultAllow), Exclusions: old.Exclusions}
	room, share := o.Room()
	s.Capacity, s.Quota = room.Origins, share
	s.Virtual4, s.Mask4 = range4(o.conf.Range4)
	s.Virtual6, s.Mask6 = range6(o.conf.Range6)
	return o.putSettings(s)
}

func (o *Objects) readSettings() (meshConfig, error) {
	var s meshConfig
	if err := o.mesh.Settings.Lookup(uint32(0), &s); err != nil {
		return s, fmt.Errorf("settings map: %w", err)
	}
	return s, nil
}

func (o *Objects) putSettings(s meshConfig) error {
	if err := o.mesh.Settings.Put(uint32(0), s); err != nil {
		return fmt.Errorf("settings map: %w", err)
	}
	o.settings = &s
	return nil
}

// change writes settings that differ by f from those written last: what others
// write there counts for nothing.
func (o *Objects) change(f func(*meshConfig)) (meshConfig, error) {
	o.writing.Lock()
	defer o.writing.Unlock()
	s := *o.settings
	f(&s)
	return s, o.putSettings(s)
}

// SetDaemonCgroup says which leaf is exempt from now on.
func (o *Objects) SetDaemonCgroup(id uint64) error {
	_, err := o.change(func(s *meshConfig) { s.DaemonCgroup = id })
	return err
}

// SetDefault says what happens where no intention matches.
func (o *Objects) SetDefault(allow bool) error {
	_, err := o.change(func(s *meshConfig) { s.DefaultAction = action(allow) })
	return err
}

// Default is what happens where no intention matches.
func (o *Objects) Default() (allow bool, err error) {
	s, err := o.readSettings()
	return s.DefaultAction == meshActionACTION_ALLOW, err
}

// Revision is the number of changes that the maps have seen.
func (o *Objects) Revision() (uint64, error) {
	s, err := o.readSettings()
	return s.Revision, err
}

// Bump counts one more change and returns the new revision.
func (o *Objects) Bump() (uint64, error) {
	s, err := o.change(func(s *meshConfig) { s.Revision++ })
	return s.Revision, err
}

// Close closes handles; pins stay in force.
func (o *Objects) Close() error {
	o.repairing.Lock()
	defer o.repairing.Unlock()
	var errs []error
	for _, h := range o.links {
		errs = append(errs, h.link.Close())
	}
	return errors.Join(append(errs, o.mesh.Close())...)
}

// Remove detaches and unpins everything below pinDir. It needs no memory of
// what was there, and is content when nothing is.
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
		if !e.Type().IsRegular() || !strings.HasSuffix(e.Name(), ".debug") { // the kernel's own, at the root of a bpffs
			errs = append(errs, os.Remove(filepath.Join(pinDir, e.Name())))
		}
	}
	return errors.Join(append(errs, removeFS(pinDir))...)
}

// Probe says whether the programs load on this kernel; nothing is attached.
func Probe() error {
	spec, err := loadMesh()
	if err != nil {
		return fmt.Errorf("eBPF programs: %w", err)
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
