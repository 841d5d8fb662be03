// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"errors"
	"fmt"
	"slices"
	"syscall"

	"tacit/policy"
)

// errWoken says that wake ended a read: there is nothing more to wait for.
var errWoken = errors.New("nothing more to wait for")

func refuse(r policy.Reason, format string, args ...any) error {
	return &policy.Refusal{Reason: r, Detail: fmt.Sprintf(format, args...)}
}

// reasonOf is an error's reason, or def if it has none.
func reasonOf(err error, def policy.Reason) policy.Reason {
	var r *policy.Refusal
	switch {
	case errors.As(err, &r):
		return r.Reason
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return policy.ReasonLimit
	}
	return def
}

// asRefusal gives an error a reason if it has none.
func asRefusal(err error, def policy.Reason) error {
	var r *policy.Refusal
	if errors.As(err, &r) {
		return err
	}
	return &policy.Refusal{Reason: reasonOf(err, def), Detail: err.Error()}
}

// peerReason is the reason that a peer sent. One that policy doesn't know is a
// breach of the protocol.
func peerReason(text []byte) policy.Reason {
	if r := policy.Reason(text); slices.Contains(policy.Reasons(), r) {
		return r
	}
	return policy.ReasonProtocol
}
