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
// As a source it never lets an ingress in: see [Table.Decide].
const Any identity.Name = "*"

// ErrEndpoint: a source or destination is neither a service name nor "*", nor, as
// a source, an ingress.
var ErrEndpoint = errors.New("bad source or destination")

// Intention is one rule: connections from Source to Destination are allowed or
// denied. Either may be Any, and Source an ingress. The services need not be
// registered.
type Intention struct {
	Source      identity.Name `json:"source"`
	Destination identity.Name `json:"destination"`
	Action      Action        `json:"action"`
	Description string        `json:"description,omitempty"`
}

// ParseSource reads the name of a service or an ingress, which it folds to lower
// case, or "*". Anything else, such as web-*, is an error that wraps ErrEndpoint.
func ParseSource(s string) (identity.Name, error) { return parse(s, identity.ParseSource) }

// ParseDestination is ParseSource without ingresses.
func ParseDestination(s string) (identity.Name, error) {
	if n, err := identity.ParseSource(s); err == nil && n.IsIngress() {
		return "", fmt.Errorf("%w: %s is a source only: name the service that it leads to", ErrEndpoint, n)
	}
	return parse(s, identity.ParseName)
}

func parse(s string, name func(string) (identity.Name, error)) (identity.Name, error) {
	if s == string(Any) {
		return Any, nil
	}
	if strings.Contains(s, string(Any)) {
		return "", fmt.Errorf("%w: %.80q: * must stand alone and means every service; there are no patterns such as web-*: write one intention for each service", ErrEndpoint, s)
	}
	n, err := name(s)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrEndpoint, err)
	}
	return n, nil
}

// Validate checks an intention that was received: both ends must be Any or a
// lower-case name, and the action must be allow or deny.
func (i Intention) Validate() error {
	source, err := ParseSource(string(i.Source))
	if err != nil {
		return err
	}
	destination, err := ParseDestination(string(i.Destination))
	if err != nil {
		return err
	}
	if source != i.Source || destination != i.Destination {
		return fmt.Errorf("%w: %q must be lower case", ErrEndpoint, i.Key())
	}
	_, err = i.Action.MarshalText()
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
