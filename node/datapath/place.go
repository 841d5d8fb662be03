// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"tacit/node/health"
	"tacit/node/workload"
)

// place is the daemon's own cgroup, whose sockets are exempt.
type place struct {
	mu   sync.Mutex
	now  uint64          // its id
	been map[uint64]bool // all ids that it has had: sockets keep theirs
}

func newPlace(id uint64) place { return place{now: id, been: map[uint64]bool{id: true}} }

// made reports whether a socket of that cgroup is the daemon's.
func (p *place) made(cgroup uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.been[cgroup]
}

func (p *place) current() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now
}

// enter says that sockets of that cgroup are the daemon's, too.
func (p *place) enter(id uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.been[id] = true
}

// settle makes it the present one, once everything has moved there.
func (p *place) settle(id uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now = id
}

// watchPlace keeps the daemon in its own cgroup. Who moves the daemon out takes
// its exemption; who is in there with it has one.
func (d *Datapath) watchPlace() {
	now, err := d.conf.Tree.Daemon()
	if err == nil && (!now.Inside || now.ID != d.place.current()) {
		err = d.comeBack(now)
	}
	others := slices.DeleteFunc(now.Others, func(pid int) bool { return slices.Contains(d.conf.Earlier(), pid) })
	if err == nil && len(others) > 0 {
		err = fmt.Errorf("process %d is in it, too, and so exempt from everything: move it to another cgroup", others[0])
	}
	d.conf.Health.Set(health.Place, "", err)
}

// comeBack enters the daemon's cgroup again, and makes it where it was removed.
func (d *Datapath) comeBack(was workload.Daemon) error {
	id, err := d.conf.Tree.EnterDaemon(d.conf.Earlier()...)
	if err != nil {
		return err
	}
	found := "the daemon was moved out of it"
	if id != d.place.current() {
		found = "it was removed"
		d.place.enter(id)
		d.conf.Moved()
		if err := errors.Join(d.conf.Hooks.SetDaemonCgroup(id), d.moveListeners()); err != nil {
			return err // the next look tries again
		}
		d.place.settle(id)
	}
	d.conf.Log.Warn("the daemon was not in its own cgroup; it is back", "found", found, "was", was.ID)
	d.conf.Health.Repaired(string(health.Place), found)
	return nil
}

// moveListeners opens new sockets for captured connections. An accepted socket
// runs the programs of the cgroup in which its listener was made, and the old
// cgroup is dying.
func (d *Datapath) moveListeners() error {
	var errs []error
	for _, l := range d.captured {
		if l != nil {
			errs = append(errs, l.Replace())
		}
	}
	return errors.Join(errs...)
}
