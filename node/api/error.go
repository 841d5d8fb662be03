// SPDX-License-Identifier: Apache-2.0

package api

import (
	"errors"
	"fmt"

	"tacit/policy"
)

// Exit statuses of the CLI for errors.
const (
	CodeRefused = 1 // valid, but refused: no operator key here, a grant is missing
	CodeError   = 2 // bad input, or something failed
)

// Error is a negative answer. Nodes are the nodes that could do what was asked.
type Error struct {
	Message string   `json:"error"`
	Hint    string   `json:"hint,omitempty"`
	Reason  Reason   `json:"reason,omitempty"`
	Nodes   []string `json:"nodes,omitempty"`
	Code    int      `json:"exit"` // CodeRefused or CodeError
}

// Error returns the message alone; the CLI prints Hint and Nodes below it.
func (e *Error) Error() string { return e.Message }

// Refused returns the error of a valid request that is refused.
func Refused(hint, format string, args ...any) *Error {
	return &Error{Code: CodeRefused, Message: fmt.Sprintf(format, args...), Hint: hint}
}

// Failed returns the error of a request that is invalid or has failed.
func Failed(hint, format string, args ...any) *Error {
	return &Error{Code: CodeError, Message: fmt.Sprintf(format, args...), Hint: hint}
}

// AsError converts any error to an *Error: a *policy.Refusal becomes a refusal with
// its reason, every other error CodeError.
func AsError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if r, ok := errors.AsType[*policy.Refusal](err); ok {
		return &Error{Code: CodeRefused, Message: err.Error(), Reason: r.Reason, Hint: r.Reason.Explain()}
	}
	return &Error{Code: CodeError, Message: err.Error()}
}
