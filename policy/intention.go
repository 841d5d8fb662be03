// SPDX-License-Identifier: Apache-2.0

// Package policy decides which service may call which: intentions, their
// precedence, the verdict with its reason, and the table that decides in constant
// time. It must not use networks, disks, clocks or service numbers: policy/kernel
// writes tables into the kernel's maps, and policy/ledger says which intentions
// are in force.
package policy

import (
	"errors"
	"fmt"
	"strings"

	"tacit/identity"
)

// Any stands for every service in an intention. No service can have this name.
const Any identity.Name = "*"

// ErrEndpoint: a source or destination is neither a service name nor "*".
var ErrEndpoint = errors.New("bad source or destination")

// Intention is one rule: connections from Source to Destination are allowed or
// denied. Either may be Any. The services need not be registered.
type Intention struct {
	Source      identity.Name `json:"source"`
	Destination identity.Name `json:"destination"`
	Action      Action        `json:"action"`
	Description string        `json:"description,omitempty"`
}

// ParseEndpoint reads a service name, which it folds to lower case, or "*".
// Anything else, such as web-*, is an error that wraps ErrEndpoint.
func ParseEndpoint(s string) (identity.Name, error) {
	if s == string(Any) {
		return Any, nil
	}
	if strings.Contains(s, string(Any)) {
		return "", fmt.Errorf("%w: %.80q: * must stand alone and means every service; there are no patterns such as web-*: write one intention for each service", ErrEndpoint, s)
	}
	n, err := identity.ParseName(s)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrEndpoint, err)
	}
	return n, nil
}

// Validate checks an intention that was received: both ends must be Any or a
// lower-case service name, and the action must be allow or deny.
func (i Intention) Validate() error {
	for _, n := range []identity.Name{i.Source, i.Destination} {
		p, err := ParseEndpoint(string(n))
		if err != nil {
			return err
		}
		if p != n {
			return fmt.Errorf("%w: %q must be lower case", ErrEndpoint, n)
		}
	}
	_, err := i.Action.MarshalText()
	return err
}

// Precedence returns 9 (exact source and destination), 8 (exact destination), 6
// (exact source) or 5 (neither), the numbers that Consul uses within one namespace.
// The higher number decides: an exact destination outranks an exact source.
func (i Intention) Precedence() int {
	p := 9
	if i.Destination == Any {
		p = 6
	}
	if i.Source == Any {
		p--
	}
	return p
}

// Key returns the pair as "source>destination".
func (i Intention) Key() string { return string(i.Source) + ">" + string(i.Destination) }

// String returns "allow web>db".
func (i Intention) String() string { return i.Action.String() + " " + i.Key() }
