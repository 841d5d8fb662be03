// SPDX-License-Identifier: Apache-2.0

// Package identity holds what proves who a peer is: names and SPIFFE IDs, keys and
// certificates, the authority that issues them, join tokens, TLS
// configurations, and the proofs that tie a service to a lane. It must not
// know the network, the disk's layout beyond its own files, or policy.
package identity

import (
	"fmt"
	"strings"
)

// Name is the name of a node or a service: a DNS label (RFC 1123) in lower
// case, 1 to 63 letters, digits and hyphens, no hyphen at either end. The name
// of an ingress has ingressPrefix before such a label.
type Name string

// ingressPrefix has a slash, so that neither a service nor a node can have the
// name of an ingress.
const ingressPrefix = "ingress/"

// Ingress is the name of the ingress that is called label.
func Ingress(label Name) Name { return ingressPrefix + label }

// IsIngress says whether the name is an ingress's.
func (n Name) IsIngress() bool { return strings.HasPrefix(string(n), ingressPrefix) }

// Label is the name without what says that it is an ingress's.
func (n Name) Label() Name { return Name(strings.TrimPrefix(string(n), ingressPrefix)) }

// ParseSource is ParseName for whoever can call a service: another service, or
// an ingress (ingress/NAME).
func ParseSource(s string) (Name, error) {
	if len(s) < len(ingressPrefix) || !strings.EqualFold(s[:len(ingressPrefix)], ingressPrefix) {
		return ParseName(s)
	}
	label, err := ParseName(s[len(ingressPrefix):])
	if err != nil {
		return "", fmt.Errorf("ingress: %w", err)
	}
	return Ingress(label), nil
}

// ParseName folds s to lower case and checks it.
func ParseName(s string) (Name, error) {
	if len(s) == 0 || len(s) > 63 {
		return "", fmt.Errorf("name %.80q: %d bytes; 1 to 63 are allowed", s, len(s))
	}
	folded := strings.Map(foldASCII, s) // ASCII only: Unicode folding turns the Kelvin sign into k
	for _, c := range []byte(folded) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return "", fmt.Errorf("name %.80q: only letters, digits and hyphens are allowed", s)
		}
	}
	if folded[0] == '-' || folded[len(folded)-1] == '-' {
		return "", fmt.Errorf("name %.80q: must not begin or end with a hyphen", s)
	}
	return Name(folded), nil
}

func foldASCII(r rune) rune {
	if r >= 'A' && r <= 'Z' {
		return r + 'a' - 'A'
	}
	return r
}

// MustName is ParseName for tests and constants; it panics.
func MustName(s string) Name {
	n, err := ParseName(s)
	if err != nil {
		panic(err)
	}
	return n
}
