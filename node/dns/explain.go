// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"fmt"
	"strings"

	"tacit/identity"
)

// Service says which service the mesh answers for a name, "" for none, and why
// in one sentence.
func (s *Server) Service(name string) (identity.Name, string) {
	p := s.find(splitName(strings.ToLower(name)))
	switch p.kind {
	case service:
		return p.name, fmt.Sprintf("%s is the service %s; it is answered with its virtual addresses on this node", name, p.name)
	case unknown:
		return "", fmt.Sprintf("%s lies in a domain of the mesh, and no service is called so: the answer is that it does not exist", name)
	case empty:
		return "", fmt.Sprintf("%s is a domain of the mesh and has no address itself", name)
	}
	return "", fmt.Sprintf("%s is not the mesh's: the query goes to the host's resolver, untouched", name)
}
