// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"testing"

	"tacit/node/config"
)

// TestEnrolled: who is known to be no workload; whoever isn't known may be one.
func TestEnrolled(t *testing.T) {
	h := newHost(t, config.Exclude{})
	app, inner, other, gone := h.cgroup("box/app"), h.cgroup("box/app/inner"), h.cgroup("box/other"), h.cgroup("box/gone")
	h.remove("box/gone")
	h.file("app.hcl", `service { name = "app" workload { cgroup = "box/app" } }`)
	h.Look()
	for id, want := range map[uint64]bool{app.ID: true, inner.ID: true, other.ID: false, gone.ID: true, 0: true} {
		if got := h.Enrolled(id); got != want {
			t.Errorf("cgroup %d: %v", id, got)
		}
	}
	h.file("uid.hcl", `service { name = "user" workload { uid = 4000000 } }`)
	h.Look()
	if !h.Enrolled(other.ID) {
		t.Error("a program may be a user's that is a workload")
	}
}
