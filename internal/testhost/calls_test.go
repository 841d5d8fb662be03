// SPDX-License-Identifier: Apache-2.0

package testhost_test

import (
	"testing"

	"tacit/internal/testhost"
)

func TestCountCalls(t *testing.T) {
	h := testhost.NewNet(t).Host(t, "host1")
	h.Run(t, "counted", "true") // makes the cgroup
	count := testhost.CountCalls(t, []string{h.CgroupPath("counted")})
	for _, cgroup := range []string{"counted", "other"} {
		if out, exit := h.Run(t, cgroup, "dd", "if=/dev/zero", "of=/dev/zero", "bs=1", "count=5000"); exit != 0 {
			t.Fatal(out)
		}
	}
	// A read and a write for each byte; what starts dd on a host makes some hundreds.
	if n := count(); n < 10_000 || n > 12_000 {
		t.Errorf("%d system calls of 10,000 and some", n)
	}
}
