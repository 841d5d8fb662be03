// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"fmt"
	"slices"

	"tacit/node/config"
	"tacit/policy/kernel"
)

// Exclusions is what x, the settled exclusions that the Inventory was opened
// with, comes to on this host: without what belongs to a service of this node,
// which stays judged. Whoever puts it in force checks service ports of this
// node, virtual addresses and the caller's workload first, all the same.
// Problems say what a service overrides, by "port 22", "uid 7", "cgroup PATH".
func (v *View) Exclusions(x config.Exclude) (kernel.Exempt, map[string]error) {
	out, problems := kernel.Exempt{Nets: x.CIDRs}, map[string]error{}
	for _, port := range x.Ports {
		if err := v.needsPort(x, port); err != nil {
			problems[fmt.Sprintf("port %d", port)] = err
			continue
		}
		out.Ports = append(out.Ports, port)
	}
	for _, uid := range x.UIDs {
		whole, err := v.runsAs(x, uid)
		if err != nil {
			problems[fmt.Sprintf("uid %d", uid)] = err
		}
		if !whole {
			out.Users = append(out.Users, uid)
		}
	}
	for _, path := range x.Cgroups {
		whole, err := v.livesIn(x, path)
		if err != nil {
			problems["cgroup "+path] = err
		}
		if id, exists := v.Excluded[path]; exists && !whole {
			out.Cgroups = append(out.Cgroups, id)
		}
	}
	return out, problems
}

// needsPort says which service needs an excluded port.
func (v *View) needsPort(x config.Exclude, port uint16) error {
	for _, s := range v.Services {
		if err := (config.Exclude{Ports: []uint16{port}, At: x.At}).Clash(s.Definition); err != nil {
			return fmt.Errorf("%w; until then it is not excluded", err)
		}
	}
	return nil
}

// runsAs says which service runs as an excluded user. whole: the user is the
// service's workload, so that nobody is left to exclude.
func (v *View) runsAs(x config.Exclude, uid uint32) (whole bool, err error) {
	for _, s := range v.Services {
		if s.Workload.UID != nil && *s.Workload.UID == uid {
			return true, fmt.Errorf("uid %d (%s) is the workload of %s (%s): it stays judged", uid, x.Source("uids"), s.ID, s.Source)
		}
	}
	for _, s := range v.Services {
		if slices.Contains(s.Users, uid) {
			return false, fmt.Errorf("programs of %s (%s) run as uid %d (%s): they stay judged", s.ID, s.Source, uid, x.Source("uids"))
		}
	}
	return false, nil
}

// livesIn says which service's workload is in an excluded cgroup, or around
// it. whole: around it, so that nobody is left to exclude.
func (v *View) livesIn(x config.Exclude, path string) (whole bool, err error) {
	for _, s := range v.Services {
		for _, own := range s.Cgroups {
			switch {
			case config.Within(own.Path, path):
				return true, fmt.Errorf("%s (%s) is in the workload of %s (%s), %s: it stays judged", path, x.Source("cgroups"), s.ID, s.Source, own.Path)
			case config.Within(path, own.Path):
				err = fmt.Errorf("%s (%s) has the workload of %s (%s), %s, in it: that one stays judged", path, x.Source("cgroups"), s.ID, s.Source, own.Path)
			}
		}
	}
	return false, err
}
