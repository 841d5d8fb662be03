// SPDX-License-Identifier: Apache-2.0

// Package policy decides who may call whom: intentions, their precedence, the
// verdict with its one reason, and the table that answers in constant time.
// It must not know of networks, disks, clocks or numbers: policy/kernel turns
// tables into maps, policy/ledger says which intentions are in force.
package policy

import (
	"errors"
	"fmt"
	"strings"

	"tacit/identity"
)

// Any stands for every service in an intention. It is never the name of one.
const Any identity.Name = "*"

// ErrEndpoint: a source or destination that is neither a service name nor "*".
var ErrEndpoint = errors.New("bad source or destination")

// Intention is one rule: connections from Source to Destination are allowed or
// denied. Either end may be Any. Names need not be registered.
type Intention struct {
	Source      identity.Name `json:"source"`
	Destination identity.Name `json:"destination"`
	Action      Action        `json:"action"`
	Description string        `json:"description,omitempty"`
}

// ParseEndpoint reads a service name (folded to lower case) or "*".
// Errors: ErrEndpoint; a star inside a longer name is an error that says so.
func ParseEndpoint(s string) (identity.Name, error) {
	if s == string(Any) {
		return Any, nil
	}
	if strings.Contains(s, string(Any)) {
		return "", fmt.Errorf("%w: %.80q: * must stand alone and means every service; patterns such as web-* don't exist, write one intention per service", ErrEndpoint, s)
	}
	n, err := identity.ParseName(s)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrEndpoint, err)
	}
	return n, nil
}

// Validate reports what is wrong with an intention made elsewhere: an end that
// is no canonical name nor Any, or an action that is neither allow nor deny.
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

// Precedence returns 9 (both ends exact), 8 (exact destination), 6 (exact
// source) or 5 (neither), as Consul numbers them in one namespace. The higher
// number decides: a match of the destination outranks a match of the source.
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

// Key identifies the pair that the intention is about: "source>destination".
func (i Intention) Key() string { return string(i.Source) + ">" + string(i.Destination) }

// String returns "allow web>db".
func (i Intention) String() string { return i.Action.String() + " " + i.Key() }
