// SPDX-License-Identifier: Apache-2.0

package records

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"time"

	"tacit/policy/ledger"
)

// setEpoch is the setting with the epoch of the last start.
const setEpoch = "epoch"

// Epoch is that of this start; 0 while no member has told what it knows.
func (r *Records) Epoch() uint64 {
	if !r.isOpen() {
		return 0
	}
	return r.begun
}

// lastEpoch is that of the last start which this disk knows; 0: there was none.
func lastEpoch(s Store) (uint64, error) {
	text, err := s.Get(setEpoch)
	if err != nil || len(text) != 8 {
		return 0, err
	}
	return binary.BigEndian.Uint64(text), nil
}

// nextEpoch is the epoch of this start, for the numbers of records and for revisions:
// no earlier start had it, not even one that a rolled-back disk has forgotten.
func nextEpoch(s Store) (uint64, error) {
	last, err := lastEpoch(s)
	if err != nil {
		return 0, err
	}
	epoch := ledger.Epoch(time.Now(), rand.Uint64(), last)
	if err := s.Set(setEpoch, binary.BigEndian.AppendUint64(nil, epoch)); err != nil {
		return 0, fmt.Errorf("this start can't be written down: %w", err)
	}
	return epoch, nil
}
