// SPDX-License-Identifier: Apache-2.0

package checks

import (
	"fmt"
	"slices"

	"tacit/identity"
	"tacit/node/definition"
	"tacit/node/workload"
	"tacit/policy"
	"tacit/policy/kernel"
)

// Identity is who health checks are to the kernel. No user can name a service
// like that, since it is no DNS label, no node can prove it, and no table of
// intentions has it: only the daemon's tag and the cgroup of the scripts lead to
// it, and only on this node.
const Identity = identity.Name("tacit/check")

// Numbers reserves numbers, and with them virtual addresses.
type Numbers interface {
	Reserve(name identity.Name, number uint32) error
}

// Reserve keeps a number for Identity below the self-probe's, at the end of a
// range of that many bits: services are counted from the other end.
func Reserve(n Numbers, bits int) error {
	if err := n.Reserve(Identity, kernel.CheckNumber(bits)); err != nil {
		return fmt.Errorf("--virtual-range4 is used up, so health checks have no number: %w", err)
	}
	return nil
}

// Enrol lets checks reach the services of this node that have any, by their
// local ports; nothing else follows from it.
func (m *Manager) Enrol(s *kernel.State, defs []definition.Definition) {
	var services []identity.Name
	for _, d := range defs {
		if len(d.Checks) > 0 && d.Port != 0 {
			services = append(services, d.Name)
		}
	}
	if len(services) == 0 {
		return
	}
	slices.Sort(services)
	for _, service := range slices.Compact(services) {
		s.Own = append(s.Own, policy.Intention{Source: Identity, Destination: service, Action: policy.Allow})
	}
	if id, err := workload.ID(m.conf.Scripts); err == nil {
		s.Workloads.Cgroups[id] = Identity
	}
}
