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

// nextEpoch is the epoch of this start, for the numbers of records and for revisions:
// no earlier start had it, not even one that a rolled-back disk has forgotten.
func nextEpoch(s Store) (uint64, error) {
	text, err := s.Get(setEpoch)
	if err != nil {
		return 0, err
	}
	var last uint64
	if len(text) == 8 {
		last = binary.BigEndian.Uint64(text)
	}
	epoch := ledger.Epoch(time.Now(), rand.Uint64(), last)
	if err := s.Set(setEpoch, binary.BigEndian.AppendUint64(nil, epoch)); err != nil {
		return 0, fmt.Errorf("this start can't be written down: %w", err)
	}
	return epoch, nil
}
