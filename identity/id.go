// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

type kind uint8

const (
	kindNode kind = iota + 1
	kindService
)

// ID is a SPIFFE ID of one of three shapes, spiffe://TD/node/NAME,
// spiffe://TD/svc/NAME and spiffe://TD/ingress/NAME. It is comparable; the zero ID
// names nobody.
type ID struct {
	td   string
	kind kind
	name Name
}

// NodeID is a node's ID.
func NodeID(td string, n Name) ID { return ID{td, kindNode, n} }

// ServiceID is the ID of a service or of an ingress.
func ServiceID(td string, n Name) ID { return ID{td, kindService, n} }

// ParseID accepts the three shapes in lower case, and nothing else.
func ParseID(s string) (ID, error) {
	id, err := spiffeid.FromString(s)
	if err != nil {
		return ID{}, fmt.Errorf("SPIFFE ID %.120q: %w", s, err)
	}
	what, rest, _ := strings.Cut(strings.TrimPrefix(id.Path(), "/"), "/")
	name, err := ParseName(rest)
	if err != nil || string(name) != rest {
		return ID{}, fmt.Errorf("SPIFFE ID %.120q: want /node/NAME, /svc/NAME or /ingress/NAME with a lower-case name", s)
	}
	switch what {
	case "node":
		return NodeID(id.TrustDomain().Name(), name), nil
	case "svc":
		return ServiceID(id.TrustDomain().Name(), name), nil
	case "ingress":
		return ServiceID(id.TrustDomain().Name(), Ingress(name)), nil
	}
	return ID{}, fmt.Errorf("SPIFFE ID %.120q: want /node/NAME, /svc/NAME or /ingress/NAME", s)
}

// ParseTrustDomain checks a trust domain: labels of lower-case letters, digits,
// hyphens and underscores with dots between them, 255 bytes at most. It is
// stricter than SPIFFE about dots and IP addresses, which X.509 name
// constraints can't express (RFC 5280, 4.2.1.10).
func ParseTrustDomain(s string) (string, error) {
	td, err := spiffeid.TrustDomainFromString(s)
	if err != nil {
		return "", fmt.Errorf("trust domain %.120q: %w", s, err)
	}
	if td.Name() != s || len(s) > 255 {
		return "", fmt.Errorf("trust domain %.120q: give the name alone, 255 bytes at most", s)
	}
	if _, err := netip.ParseAddr(s); err == nil || strings.Contains("."+s+".", "..") {
		return "", fmt.Errorf("trust domain %.120q: want labels with one dot between them, and no IP address", s)
	}
	return td.Name(), nil
}

// String is the ID as a URI, "" for the zero ID.
func (id ID) String() string {
	switch {
	case id.kind == kindNode:
		return "spiffe://" + id.td + "/node/" + string(id.name)
	case id.name.IsIngress():
		return "spiffe://" + id.td + "/" + string(id.name)
	case id.kind == kindService:
		return "spiffe://" + id.td + "/svc/" + string(id.name)
	}
	return ""
}

// Name is the node's or the service's name.
func (id ID) Name() Name { return id.name }

// TrustDomain is the ID's trust domain.
func (id ID) TrustDomain() string { return id.td }

// IsNode says whether the ID names a node.
func (id ID) IsNode() bool { return id.kind == kindNode }

// IsService says whether the ID names a service or an ingress.
func (id ID) IsService() bool { return id.kind == kindService }

// IsZero says whether the ID names nobody.
func (id ID) IsZero() bool { return id == ID{} }
