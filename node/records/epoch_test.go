// SPDX-License-Identifier: Apache-2.0

package records

import (
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"tacit/policy/ledger"
)

// TestEpoch: every start has a higher one, also with a clock that was set back, and two
// starts from one image have two.
func TestEpoch(t *testing.T) {
	d := &disk{settings: map[string][]byte{}}
	first, err := nextEpoch(d)
	if err != nil {
		t.Fatal(err)
	}
	ahead := ledger.Epoch(time.Now().Add(time.Hour), 0, 0)
	found := map[uint64]bool{}
	for range 5 {
		d.settings[setEpoch] = binary.BigEndian.AppendUint64(nil, ahead)
		epoch, err := nextEpoch(d)
		if err != nil || epoch <= ahead || epoch <= first {
			t.Errorf("epochs %d, %d and %d, %v", first, ahead, epoch, err)
		}
		found[epoch] = true
	}
	if len(found) == 1 {
		t.Error("all starts from one image have the same epoch")
	}
	d.settings[setEpoch] = []byte{0x7f, 0, 0, 0, 0, 0, 0, 0}
	if epoch, err := nextEpoch(d); err != nil || epoch > ahead {
		t.Errorf("after a damaged epoch: %d, %v", epoch, err)
	}
	d.full = true
	if _, err := nextEpoch(d); !errors.Is(err, errFull) {
		t.Errorf("with a full disk: %v", err)
	}
}
