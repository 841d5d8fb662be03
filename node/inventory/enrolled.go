// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"tacit/node/config"
	"tacit/node/workload"
)

// Enrolled says whether a program in a cgroup may be a workload of this node: also
// where that can't be known, because the cgroup is 0 or gone, or some workload is a
// user.
func (i *Inventory) Enrolled(cgroup uint64) bool {
	path, err := workload.PathOf(i.conf.Tree.Root(), cgroup)
	if cgroup == 0 || err != nil {
		return true
	}
	for _, s := range i.View().Services {
		if s.Workload.UID != nil {
			return true
		}
		for _, own := range s.Cgroups {
			if config.Within(own.Path, path) {
				return true
			}
		}
	}
	return false
}
