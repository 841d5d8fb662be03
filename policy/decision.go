// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"fmt"

	"tacit/policy/shortage"
)

// Decision is a verdict with its reason. The zero value refuses.
type Decision struct {
	Allowed bool       `json:"allowed"`
	Reason  Reason     `json:"reason"`
	Rule    *Intention `json:"rule,omitempty"` // the rule that decided; nil: the default decided
}

// Err returns nil for an allowed decision and a *Refusal otherwise.
func (d Decision) Err() error {
	if d.Allowed {
		return nil
	}
	if d.Rule != nil {
		return &Refusal{Reason: d.Reason, Detail: d.Rule.String()}
	}
	return &Refusal{Reason: d.Reason}
}

// Refusal is the error of every refused connection.
type Refusal struct {
	Reason Reason
	Detail string // names and numbers of this connection; may be empty
}

// Error returns "refused: <reason>: <detail>".
func (r *Refusal) Error() string {
	if r.Detail == "" {
		return "refused: " + string(r.Reason)
	}
	return "refused: " + string(r.Reason) + ": " + r.Detail
}

// Is makes errors.Is(err, &Refusal{Reason: x}) compare the reasons alone.
func (r *Refusal) Is(target error) bool {
	t, ok := target.(*Refusal)
	return ok && t.Reason == r.Reason && (t.Detail == "" || t.Detail == r.Detail)
}

// Refuse makes a Refusal whose detail is formatted as by fmt.Sprintf.
func Refuse(r Reason, format string, args ...any) error {
	return &Refusal{Reason: r, Detail: fmt.Sprintf(format, args...)}
}

// ReasonOf is the reason of a Refusal, ReasonLimit where no descriptor or no memory
// was left, and otherwise def.
func ReasonOf(err error, def Reason) Reason {
	if r, ok := errors.AsType[*Refusal](err); ok {
		return r.Reason
	}
	if shortage.Is(err) {
		return ReasonLimit
	}
	return def
}
