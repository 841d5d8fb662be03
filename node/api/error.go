// SPDX-License-Identifier: Apache-2.0

package api

import (
	"errors"
	"fmt"

	"tacit/policy"
)

// Exit statuses of the CLI that errors carry.
const (
	CodeRefused = 1 // understood, and not done: no operator key here, a grant is missing
	CodeError   = 2 // bad input, or something failed
)

// Error is an answer that says no. Nodes are those that could do it.
type Error struct {
	Message string   `json:"error"`
	Hint    string   `json:"hint,omitempty"`
	Reason  Reason   `json:"reason,omitempty"`
	Nodes   []string `json:"nodes,omitempty"`
	Code    int      `json:"exit"` // CodeRefused or CodeError
}

// Error returns the message alone; the CLI prints hint and nodes below it.
func (e *Error) Error() string { return e.Message }

// Refused says that a request was understood and isn't done here.
func Refused(hint, format string, args ...any) *Error {
	return &Error{Code: CodeRefused, Message: fmt.Sprintf(format, args...), Hint: hint}
}

// Failed says that a request is wrong or went wrong.
func Failed(hint, format string, args ...any) *Error {
	return &Error{Code: CodeError, Message: fmt.Sprintf(format, args...), Hint: hint}
}

// AsError gives any error the shape that travels: a *policy.Refusal is a
// refusal with its reason, everything unknown an error.
func AsError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if r, ok := errors.AsType[*policy.Refusal](err); ok {
		return &Error{Code: CodeRefused, Message: err.Error(), Reason: r.Reason, Hint: r.Reason.Explain()}
	}
	return &Error{Code: CodeError, Message: err.Error()}
}
