// SPDX-License-Identifier: Apache-2.0

package policy

import "fmt"

// Action is what an intention does with the connections that it matches. The zero
// value is invalid and counts as Deny.
type Action uint8

// The actions.
const (
	Deny  Action = 1
	Allow Action = 2
)

// ParseAction reads "allow" or "deny", exactly.
func ParseAction(s string) (Action, error) {
	switch s {
	case "allow":
		return Allow, nil
	case "deny":
		return Deny, nil
	}
	return 0, fmt.Errorf("action %q: use allow or deny", s)
}

// String returns "allow" or "deny", and "action(N)" for anything else.
func (a Action) String() string {
	switch a {
	case Allow:
		return "allow"
	case Deny:
		return "deny"
	}
	return fmt.Sprintf("action(%d)", uint8(a))
}

// MarshalText returns "allow" or "deny"; any other value is an error.
func (a Action) MarshalText() ([]byte, error) {
	if a != Allow && a != Deny {
		return nil, fmt.Errorf("invalid action %d: use allow or deny", uint8(a))
	}
	return []byte(a.String()), nil
}

// UnmarshalText is ParseAction.
func (a *Action) UnmarshalText(text []byte) (err error) {
	*a, err = ParseAction(string(text))
	return err
}
