// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"tacit/node/workload"
	"tacit/redirect"
)

// How often what others can change is looked at. A look where nothing is wrong
// costs well under a millisecond, but for the maps of a large mesh.
const (
	watchInterval = time.Second
	slowInterval  = 2 * time.Second // ports and settings of the host
	longestUnread = 3500 * time.Millisecond
	readingAtMost = 50 // times the cost of reading the maps is how long they rest
)

// Names of checks that more than one place has a word in.
const (
	hooksCheck  = "hooks"
	mapsCheck   = "maps"
	routesCheck = "routes and rules"
	placeCheck  = "daemon's cgroup"
	portsCheck  = "ports"
	hostCheck   = "sysctls"
)

// watch repairs what others do to programs, maps and the daemon's own place,
// and looks for what it can't repair.
func (n *Node) watch(ctx context.Context) error {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	var mapsDue, slowDue time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		n.watchPlace()
		n.watchObjects()
		if now := time.Now(); !now.Before(mapsDue) {
			n.watchMaps()
			mapsDue = now.Add(min(max(watchInterval, readingAtMost*time.Since(now)), longestUnread))
		}
		if now := time.Now(); !now.Before(slowDue) {
			n.watchPorts()
			n.watchHost()
			slowDue = now.Add(slowInterval - watchInterval/2)
		}
	}
}

// watchObjects puts programs, pins and small maps right.
func (n *Node) watchObjects() {
	bad := map[string]map[string]error{"hook": {}, "map": {}}
	for _, r := range n.objects.Repair() {
		if r.Err != nil {
			group, object, _ := strings.Cut(r.Object, " ")
			bad[group][object] = fmt.Errorf("%s, and not repaired: %w", orNothing(r.Found), r.Err)
			continue
		}
		n.log.Warn("changed by others; put right", "object", r.Object, "found", r.Found)
		n.repairs.note(r.Object, r.Found)
	}
	for group, problems := range bad {
		n.problems.replace(group, problems)
	}
}

func orNothing(found string) string {
	if found == "" {
		return "can't be examined"
	}
	return found
}

// watchMaps has the larger maps read, and written again where others wrote.
func (n *Node) watchMaps() {
	changed, err := n.kernel.Verify()
	n.problems.set("maps unread", err)
	for _, name := range changed {
		n.log.Warn("changed by others; writing it again", "object", "map "+name)
		n.repairs.note("map "+name, "changed by others")
	}
	if len(changed) > 0 {
		n.sweepDue.Store(true) // what was let in meanwhile is judged again
		n.nudge()
	}
}

// watchPlace keeps the daemon in its own cgroup, and the probe in the tree: who
// moves it out takes its exemption, and who is in there has one.
func (n *Node) watchPlace() {
	d, err := n.tree.Daemon()
	if err == nil && (!d.Inside || d.ID != n.daemonID.Load()) {
		err = n.comeBack(d)
	}
	if err == nil && len(d.Others) > 0 {
		err = fmt.Errorf("process %d is in it, too, and so exempt from everything: move it to another cgroup", d.Others[0])
	}
	n.problems.set(placeCheck, err)
}

// comeBack enters the daemon's cgroup again, made anew where it was removed.
func (n *Node) comeBack(was workload.Daemon) error {
	id, err := n.tree.EnterDaemon()
	if err != nil {
		return err
	}
	found := "the daemon was moved out of it"
	if old := n.daemonID.Swap(id); old != id {
		found = "it was removed"
		n.daemonIDs.Store(id, true)
		n.trials.prober.Moved()
		err = errors.Join(n.objects.SetDaemonCgroup(id), n.moveListeners())
	}
	n.log.Warn("the daemon was not in its own cgroup; back again", "found", found, "was", was.ID)
	n.repairs.note(placeCheck, found)
	return err
}

// moveListeners takes new sockets for captured connections: what is accepted
// runs the programs of the cgroup that the listener was made in, and that one
// is dying.
func (n *Node) moveListeners() error {
	var errs []error
	for i := range n.captured {
		if l := n.captured[i].Load(); l != nil {
			errs = append(errs, l.again())
		}
	}
	return errors.Join(errs...)
}

// watchHost looks at the settings of the host that are in the way.
func (n *Node) watchHost() {
	var err error
	if n.plan.Load().TPROXY() {
		if found := redirect.Hindrances(); len(found) > 0 {
			err = errors.New(strings.Join(found, "; "))
		}
	}
	n.problems.set(hostCheck, err)
}
