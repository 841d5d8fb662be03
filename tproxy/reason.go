// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"errors"
	"slices"

	"tacit/policy"
)

// errWoken says that wake ended a read: there is nothing more to wait for.
var errWoken = errors.New("nothing more to wait for")

// asRefusal gives an error a reason if it has none.
func asRefusal(err error, def policy.Reason) error {
	var r *policy.Refusal
	if errors.As(err, &r) {
		return err
	}
	return &policy.Refusal{Reason: policy.ReasonOf(err, def), Detail: err.Error()}
}

// peerReason is the reason that a peer sent. One that policy doesn't know is a
// breach of the protocol.
func peerReason(text []byte) policy.Reason {
	if r := policy.Reason(text); slices.Contains(policy.Reasons(), r) {
		return r
	}
	return policy.ReasonProtocol
}
