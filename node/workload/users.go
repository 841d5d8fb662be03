// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// Users returns the real and effective user ids of the processes in a cgroup
// and below it, sorted.
func Users(path string) []uint32 {
	var out []uint32
	for _, pid := range below(path) {
		out = append(out, usersOf(pid)...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// usersOf reads the line "Uid: real effective saved filesystem" (proc(5)).
func usersOf(pid int) []uint32 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(text)) {
		var real, effective uint32
		if n, _ := fmt.Sscanf(line, "Uid:\t%d\t%d", &real, &effective); n == 2 {
			return []uint32{real, effective}
		}
	}
	return nil
}
