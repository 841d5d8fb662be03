// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"fmt"
	"slices"

	"tacit/identity"
	"tacit/policy"
)

// Call is a connection for which an instance is chosen.
type Call struct {
	Service  identity.Name
	Port     uint16                  // that the caller connected to
	Source   string                  // who calls, for the policy "hash"
	Tried    func(Instance) bool     // whether this connection has tried an instance before
	Standing func(Instance) Standing // what this node knows of an instance
	Turn     uint64                  // the number of the connection among those to the service
	IntN     func(n int) int         // a random number in [0, n)
}

// Standing is what a node knows of an instance from its own connections.
type Standing struct {
	Streams int // live ones
	Ejected bool
	Share   int // of its weight, in percent: less than 100 while the instance starts
}

// Pick chooses an instance for a connection to VIRTUAL:Port, as docs/balancing.md
// says: by health, then by locality, then by the service's policy. others says
// whether an instance is left that wasn't tried. Errors are *policy.Refusal with
// the reasons port and instance.
func (c *Catalog) Pick(q Call) (in Instance, others bool, err error) {
	port := c.Port(q.Service, q.Port)
	if port == 0 && c.Known(q.Service) {
		return Instance{}, false, &policy.Refusal{Reason: policy.ReasonPort,
			Detail: fmt.Sprintf("%s has no port %d (it has %v)", q.Service, q.Port, c.Ports(q.Service))}
	}
	all := keep(c.services[q.Service], func(in Instance) bool { return port != 0 && in.Port == port && in.Callable() })
	if len(all) == 0 {
		return Instance{}, false, &policy.Refusal{Reason: policy.ReasonInstance,
			Detail: fmt.Sprintf("no instance of %s is healthy", q.Service)}
	}
	fresh := keep(all, func(in Instance) bool { return !q.Tried(in) })
	best := orAll(fresh, all)
	best = orAll(keep(best, func(in Instance) bool { return !q.Standing(in).Ejected }), best)
	best = c.nearest(best)
	how, _ := c.Settings(q.Service)
	return best[choose(how, best, q)], len(fresh) > 1, nil
}

// Callable says whether an instance can be called at all.
func (in Instance) Callable() bool { return in.Healthy }

// nearest keeps the instances on this node; without one, those in its zone;
// without one, all.
func (c *Catalog) nearest(list []Instance) []Instance {
	here := keep(list, func(in Instance) bool { return in.Here })
	zone := keep(list, func(in Instance) bool { return in.Zone != "" && in.Zone == c.zone })
	return orAll(here, orAll(zone, list))
}

func keep(list []Instance, f func(Instance) bool) []Instance {
	return slices.DeleteFunc(slices.Clone(list), func(in Instance) bool { return !f(in) })
}

func orAll(some, all []Instance) []Instance {
	if len(some) > 0 {
		return some
	}
	return all
}
