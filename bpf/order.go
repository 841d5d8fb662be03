// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"encoding/binary"
	"math/bits"
)

// The programs are compiled for little-endian machines (bpfel), so Go sees a number
// in network order with its bytes swapped.

func swap(port uint16) uint16 { return bits.ReverseBytes16(port) }

func native(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }

func putNative(b []byte, w uint32) { binary.LittleEndian.PutUint32(b, w) }
