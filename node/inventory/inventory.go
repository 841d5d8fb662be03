// SPDX-License-Identifier: Apache-2.0

// Package inventory knows what is defined, listens and runs on this node, and
// publishes it as one immutable View. It decides nothing about who may run or
// call what: the compilers of a View turn it into tables that others put in
// force. It must not write to the kernel, and only Open, Keep and commands
// (Register, Deregister, Release, Exempt) touch the disk.
package inventory

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"tacit/node/config"
	"tacit/node/definition/folder"
	"tacit/node/health"
	"tacit/node/workload"
	"tacit/policy/shortage"
)

// Store keeps what must survive a restart.
type Store interface {
	// Get and Set are settings by name; Get returns nil for one never set.
	Get(name string) ([]byte, error)
	Set(name string, value []byte) error
	// The others keep the services that were registered by command, as JSON by instance id.
	PutService(id string, definition any) error
	DeleteService(id string) error
	Services(f func(id string, text []byte) error) error
}

// Health learns what Keep reports.
type Health interface {
	Set(f health.Family, thing string, err error) (news bool)
	Replace(f health.Family, now map[string]error)
}

// Config is what an Inventory works with.
type Config struct {
	Settings *config.Settled
	Tree     workload.Tree
	Store    Store
	Health   Health
	Log      *slog.Logger
}

// Inventory is safe for concurrent use.
type Inventory struct {
	conf Config
	view atomic.Pointer[View]

	mu       sync.Mutex // guards everything below: one look at a time
	defined  definitions
	held     held
	exempt   exempt
	cgroups  cgroups
	sockets  sockets
	places   places
	looked   int       // version of the definitions in the last View
	slowLook time.Time // when everything was examined last
}

// Open loads what an earlier daemon kept and reads the service files. It asks
// the kernel nothing. Errors: the folder of service files is something else,
// or the state can't be read.
func Open(c Config) (*Inventory, error) {
	folder, err := folder.New(c.Settings.ServicesDir)
	if err != nil {
		return nil, err
	}
	i := &Inventory{conf: c,
		defined: definitions{folder: folder, files: setting{store: c.Store, name: settingFiles}, stale: true},
		held:    held{kept: setting{store: c.Store, name: settingHeld}, loggedIn: someoneLoggedIn, waits: map[string]bool{}},
		exempt:  exempt{kept: setting{store: c.Store, name: settingExempt}},
		cgroups: cgroups{tree: c.Tree},
		places:  places{kept: setting{store: c.Store, name: settingPlaces}, held: map[string]string{}},
	}
	i.view.Store(&View{})
	err = errors.Join(i.defined.load(), i.held.kept.load(&i.held.waits), i.exempt.kept.load(&i.exempt.conns), i.places.kept.load(&i.places.held))
	if err != nil {
		return nil, err
	}
	i.held.admit(folder.Definitions()) // they were in force
	i.readFiles()
	return i, nil
}

// View is the last one published.
func (i *Inventory) View() *View { return i.view.Load() }

// Owner is the instance of a service here whose port it is, "" for none.
func (i *Inventory) Owner(port uint16) string {
	s, _ := i.View().OnPort(port)
	return s.ID
}

// Defined returns what is defined here and nothing about what runs: for whoever
// closes ports before the daemon looks. A service file that is seen for the
// first time is held back here too, where somebody is logged in by its port.
func (i *Inventory) Defined() (*View, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.define(); i.defined.err != nil {
		return nil, i.defined.err
	}
	v := &View{}
	for _, d := range i.defined.list {
		s := Service{Definition: d}
		if i.seesInside(d) {
			s.Place = i.places.of(d)
		}
		v.Services = append(v.Services, s)
	}
	return v, nil
}

// Run follows the service files and the cgroup tree until ctx ends, and calls
// changed when a Look would find something else. changed must not block.
func (i *Inventory) Run(ctx context.Context, changed func()) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return i.defined.folder.Watch(ctx, func() {
			if shortage.Now() != nil {
				return // the next round looks again; no file is bad because it can't be opened
			}
			i.mu.Lock()
			i.readFiles()
			i.mu.Unlock()
			changed()
		})
	})
	g.Go(func() error { return i.watchCgroups(ctx, changed) })
	return g.Wait()
}

// Reload reads every service file again now, also where nothing looks changed,
// and logs those that are still bad.
func (i *Inventory) Reload() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.defined.folder.Forget()
	i.defined.told.bad = nil
	i.readFiles()
}

// watchCgroups never fails: without events, each Look scans the tree.
func (i *Inventory) watchCgroups(ctx context.Context, changed func()) error {
	w, err := workload.NewWatcher()
	if err == nil {
		i.mu.Lock()
		i.cgroups.follow(w)
		i.mu.Unlock()
		changed()
		err = w.Run(ctx, func() {
			i.cgroups.stale.Store(true)
			changed()
		})
	}
	if err != nil {
		i.conf.Log.Warn("the cgroup tree is scanned at each look instead of after changes", "err", err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.cgroups.follow(nil)
	return nil
}

// Rescan has the next Look examine the cgroup tree, for who has just made a
// cgroup and can't wait for the kernel's notice.
func (i *Inventory) Rescan() { i.cgroups.stale.Store(true) }
