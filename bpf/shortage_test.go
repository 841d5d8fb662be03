// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"path/filepath"
	"testing"

	"tacit/bpf/pinfs"
	"tacit/internal/testhost"
	"tacit/policy/shortage"
)

// pinsNow are the inodes of all pins: a repair makes a new one.
func (h *host) pinsNow() map[string]pinfs.File {
	h.t.Helper()
	out := map[string]pinfs.File{}
	list, err := filepath.Glob(h.pin("*"))
	h.ok(err)
	for _, path := range list {
		out[path], err = pinfs.Stat(path)
		h.ok(err)
	}
	return out
}

// TestNoDescriptorIsNoSabotage: whatever a repair can't open for want of descriptors
// is neither found changed nor replaced, also where no pin was examined before, and
// the state of the programs is unknown instead of bad.
func TestNoDescriptorIsNoSabotage(t *testing.T) {
	h := newHost(t)
	h.proxy()
	before := h.pinsNow()
	for n := range 4 {
		clear(h.Objects.pins) // as after a start
		var found []Repaired
		testhost.WithDescriptors(t, n, func() { found = h.Repair() })
		if n == 0 && len(found) == 0 {
			t.Error("nothing was missing without any descriptor")
		}
		for _, f := range found {
			if f.Found != "" || !shortage.Is(f.Err) {
				t.Errorf("with %d descriptors: %+v", n, f)
			}
		}
		testhost.WithDescriptors(t, n, func() {
			hooks, err := h.Status()
			for _, one := range hooks {
				if one.Problem != "" {
					t.Errorf("with %d descriptors: %+v", n, one)
				}
			}
			if err != nil && !shortage.Is(err) || n == 0 && err == nil {
				t.Errorf("with %d descriptors: %v", n, err)
			}
		})
	}
	for path, file := range h.pinsNow() {
		if before[path] != file {
			t.Errorf("%s was replaced", path)
		}
	}
	if found := h.Repair(); len(found) > 0 {
		t.Errorf("with all descriptors: %v", found)
	}
	expectHealthy(t, h.Objects)
}
