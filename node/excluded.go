// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"net/netip"
	"slices"

	"tacit/node/workload"
)

// exclusions are what Config.Exclude comes to on this host now. Whoever puts
// them in force asks for a service's port on this node, for a virtual address
// and for the caller's workload first: those are judged all the same.
type exclusions struct {
	ports   []uint16
	cidrs   []netip.Prefix
	uids    []uint32
	cgroups []uint64 // by id; those that exist now, everything below them included
}

// exclusions leaves out what belongs to a service of this node, and says so in
// status: what is both excluded and a service's stays closed.
func (n *Node) exclusions(local *localView) exclusions {
	x, lost := n.cfg.Exclude, map[string]error{}
	out := exclusions{cidrs: x.CIDRs}
	for _, port := range x.Ports {
		if err := local.needs(x, port); err != nil {
			lost[fmt.Sprintf("port %d", port)] = err
			continue
		}
		out.ports = append(out.ports, port)
	}
	for _, uid := range x.UIDs {
		whole, err := local.runsAs(x, uid)
		if err != nil {
			lost[fmt.Sprintf("uid %d", uid)] = err
		}
		if !whole {
			out.uids = append(out.uids, uid)
		}
	}
	for _, path := range x.Cgroups {
		whole, err := local.livesIn(x, path)
		if err != nil {
			lost["cgroup "+path] = err
		}
		if id, missing := workload.ID(path); !whole && missing == nil {
			out.cgroups = append(out.cgroups, id)
		}
	}
	n.problems.replace("exclude", lost)
	return out
}

// needs says which service needs a port that is to be left alone.
func (v *localView) needs(x Exclude, port uint16) error {
	for _, s := range v.services {
		if err := (Exclude{Ports: []uint16{port}, At: x.At}).clash(s.Definition); err != nil {
			return fmt.Errorf("%w; until then it is not excluded", err)
		}
	}
	return nil
}

// runsAs says which service runs as an excluded user; whole: the service is
// that user, so that nobody is left to exclude.
func (v *localView) runsAs(x Exclude, uid uint32) (whole bool, err error) {
	for _, s := range v.services {
		if s.Workload.UID != nil && *s.Workload.UID == uid {
			return true, fmt.Errorf("uid %d (%s) is the workload of %s (%s): it stays judged", uid, x.at("uids"), s.ID, s.Source)
		}
	}
	for _, s := range v.services {
		for _, path := range s.cgroups {
			if slices.Contains(workload.Users(path), uid) {
				return false, fmt.Errorf("programs of %s (%s) run as uid %d (%s): they stay judged", s.ID, s.Source, uid, x.at("uids"))
			}
		}
	}
	return false, nil
}

// livesIn says which service's workload is in an excluded cgroup, or around
// it; whole: around it, so that nobody is left to exclude.
func (v *localView) livesIn(x Exclude, path string) (whole bool, err error) {
	for _, s := range v.services {
		for _, own := range s.cgroups {
			switch {
			case within(own, path):
				return true, fmt.Errorf("%s (%s) is in the workload of %s (%s), %s: it stays judged", path, x.at("cgroups"), s.ID, s.Source, own)
			case within(path, own):
				err = fmt.Errorf("%s (%s) has the workload of %s (%s), %s, in it: that one stays judged", path, x.at("cgroups"), s.ID, s.Source, own)
			}
		}
	}
	return false, err
}
