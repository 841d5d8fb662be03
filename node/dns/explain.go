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
		return s.explainService(name, p)
	case missing:
		if p.tag != "" {
			return "", fmt.Sprintf("%s: no instance of the service %s that can be called has the tag %s: the answer is NXDOMAIN", name, p.name, p.tag)
		}
		return "", fmt.Sprintf("%s is in a domain of the mesh, but no service has this name: the answer is NXDOMAIN", name)
	case empty, apex:
		return "", fmt.Sprintf("%s is in a domain of the mesh and has no address: the answer is empty", name)
	case host:
		return "", fmt.Sprintf("%s is not a service; the answer is %s", name, p.addrs)
	case reverse:
		return p.name, fmt.Sprintf("%s is a virtual address on this node, that of the service %s; the answer is %s", name, p.name, s.pointer(p.name))
	}
	return "", fmt.Sprintf("%s is not a name of the mesh: the query goes unchanged to the host's resolver", name)
}

func (s *Server) explainService(name string, p meaning) (identity.Name, string) {
	switch {
	case p.real:
		return p.name, fmt.Sprintf("%s is the real name of the service %s, which is outside of the mesh; the answer for workloads is its virtual addresses on this node, "+
			"other programs get that of the host's resolver", name, p.name)
	case strings.Contains(string(p.name), "."):
		return p.name, fmt.Sprintf("%s is the subset %s; the answer is its virtual addresses on this node", name, p.name)
	case p.tag == "":
		return p.name, fmt.Sprintf("%s is the service %s; the answer is its virtual addresses on this node", name, p.name)
	case len(s.ports(p.name, p.tag)) == 0:
		return "", fmt.Sprintf("%s: some instances of the service %s have the tag %s, but others with the same ports don't, "+
			"and a connection could reach any of them: the answer is empty; a subset of that name would have an address", name, p.name, p.tag)
	}
	return p.name, fmt.Sprintf("%s is the service %s, by ports where every instance has the tag %s; the answer is its virtual addresses on this node",
		name, p.name, p.tag)
}
