// SPDX-License-Identifier: Apache-2.0

package testhost

import (
	"fmt"
	"testing"
	"time"

	"tacit/internal/testhost/state"
)

// Snapshot is all that a daemon could have left on the host, as text that is
// equal when nothing differs: see package state.
func (h *Host) Snapshot(t testing.TB) string {
	t.Helper()
	text, err := h.snapshot()
	Must(t, err)
	return text
}

func (h *Host) snapshot() (text string, err error) {
	err = h.Do(func() error {
		text, err = state.Of(h.Cgroup, h.BPF, h.RunDir)
		return err
	})
	return text, err
}

// Leaks remembers the host's state. check fails the test when the host isn't in
// that state again within 5 s, and lists the differences.
func (h *Host) Leaks(t testing.TB) (check func()) {
	t.Helper()
	before := h.Snapshot(t)
	return func() {
		t.Helper()
		err := wait(5*time.Second, func() error {
			after, err := h.snapshot()
			if err == nil && after != before {
				err = fmt.Errorf("%s", state.Difference(before, after))
			}
			return err
		})
		if err != nil {
			t.Errorf("%s: left behind (+) or lost (-):\n%v", h.Name, err)
		}
	}
}
