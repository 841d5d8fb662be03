// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"fmt"
	"strings"

	"tacit/identity"
)

// Service returns the service that a name resolves to, "" for none, and the reason
// as one sentence.
func (s *Server) Service(name string) (identity.Name, string) {
	p := s.classify(splitName(strings.ToLower(name)))
	switch p.kind {
	case service:
		return p.name, fmt.Sprintf("%s is the service %s; the answer is its virtual addresses on this node", name, p.name)
	case missing:
		return "", fmt.Sprintf("%s is in a domain of the mesh, but no service has this name: the answer is NXDOMAIN", name)
	case empty:
		return "", fmt.Sprintf("%s is in a domain of the mesh and has no address: the answer is empty", name)
	}
	return "", fmt.Sprintf("%s is not a name of the mesh: the query goes unchanged to the host's resolver", name)
}
