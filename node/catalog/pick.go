// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"fmt"
	"math/rand/v2"

	"tacit/identity"
	"tacit/policy"
)

// Pick chooses a healthy instance for a connection to VIRTUAL:dialled: one on this
// node if there is one, else one elsewhere, at random by weight. Errors are
// *policy.Refusal with the reasons port and instance.
func (c *Catalog) Pick(service identity.Name, dialled uint16) (Instance, error) {
	port := c.Port(service, dialled)
	if port == 0 && c.Known(service) {
		return Instance{}, &policy.Refusal{Reason: policy.ReasonPort,
			Detail: fmt.Sprintf("%s has no port %d (it has %v)", service, dialled, c.Ports(service))}
	}
	var remote []Instance
	total := 0
	for _, in := range c.services[service] {
		if in.Port != port || port == 0 || !in.Healthy {
			continue
		}
		if in.Here {
			return in, nil
		}
		remote = append(remote, in)
		total += weight(in)
	}
	if len(remote) == 0 {
		return Instance{}, &policy.Refusal{Reason: policy.ReasonInstance,
			Detail: fmt.Sprintf("no instance of %s is healthy", service)}
	}
	return byWeight(remote, rand.IntN(total)), nil
}

func weight(in Instance) int { return max(in.Weight, 1) }

func byWeight(list []Instance, n int) Instance {
	for _, in := range list {
		if n -= weight(in); n < 0 {
			return in
		}
	}
	return list[len(list)-1]
}
