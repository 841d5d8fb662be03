// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"fmt"
	"io/fs"
	"path/filepath"

	"tacit/redirect/netns"
)

// Networks returns the network namespaces of the processes in some cgroups and below
// them, each once, without the caller's own; home says whether a process is in that.
func Networks(cgroups []Cgroup) (found []netns.Namespace, home bool) {
	seen := map[netns.ID]bool{}
	own, err := netns.Own()
	for _, c := range cgroups {
		for _, pid := range below(c.Path) {
			at, e := netns.At(fmt.Sprintf("/proc/%d/ns/net", pid))
			if err != nil || e != nil || seen[at.ID] {
				continue // it has ended
			}
			seen[at.ID] = true
			if home = home || at.ID == own.ID; at.ID != own.ID {
				found = append(found, at)
			}
		}
	}
	return found, home
}

// below lists the processes in a cgroup and below it.
func below(path string) (pids []int) {
	_ = filepath.WalkDir(path, func(dir string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			some, _ := procs(dir)
			pids = append(pids, some...)
		}
		return nil
	})
	return pids
}
