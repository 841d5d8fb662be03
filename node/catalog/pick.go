// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"fmt"
	"slices"
	"strings"

	"tacit/identity"
	"tacit/policy"
)

// Call is a connection for which an instance is chosen.
type Call struct {
	Service  identity.Name
	Subset   identity.Name            // that the caller connected to; "": to the service
	Port     uint16                   // that the caller connected to
	Source   string                   // who calls, for the policy "hash"
	Allowed  func(identity.Name) bool // whether the source may call a service that stands in for this one
	Tried    func(Instance) bool      // whether this connection has tried an instance before
	Standing func(Instance) Standing  // what this node knows of an instance
	// Turn is the number of this connection among those to a service's subset, ""
	// without a split.
	Turn func(service, subset identity.Name) uint64
	IntN func(n int) int // a random number in [0, n)
}

// Standing is what a node knows of an instance from its own connections.
type Standing struct {
	Streams int // live ones
	Ejected bool
	Leaving bool // its node is about to stop
	Share   int  // of its weight, in percent: less than 100 while the instance starts
}

// Pick chooses an instance for a connection to VIRTUAL:Port, as docs/balancing.md
// says: by health, then by the split, then by locality, then by the service's
// policy. The instance is of another service where that one stands in. others says
// whether an instance is left that wasn't tried. Errors are *policy.Refusal with
// the reasons port and instance.
func (c *Catalog) Pick(q Call) (in Instance, others bool, err error) {
	pools, err := c.callable(q)
	if err != nil {
		return Instance{}, false, err
	}
	var list []Instance // of the first service that has an untried instance, else of the first one
	left := 0           // untried ones of all
	for _, all := range pools {
		fresh := keep(all, func(in Instance) bool { return !q.Tried(in) })
		if left == 0 && len(fresh) > 0 || list == nil {
			list = orAll(fresh, all)
		}
		left += len(fresh)
	}
	service := list[0].Service
	list = orAll(keep(list, func(in Instance) bool { return !q.Standing(in).Ejected }), list)
	list = orAll(keep(list, func(in Instance) bool { return !q.Standing(in).Leaving }), list)
	how, _ := c.Settings(service)
	list, subset := c.split(how, list, q)
	list = c.nearest(list)
	return list[choose(how, list, q.Turn(service, subset), q)], left > 1, nil
}

// Check says why no connection to VIRTUAL:dialled can be carried, as Pick would.
// allowed says whether the caller may call a service that stands in for this one.
func (c *Catalog) Check(service identity.Name, dialled uint16, allowed func(identity.Name) bool) error {
	_, err := c.callable(Call{Service: service, Port: dialled, Allowed: allowed})
	return err
}

// callable is pools of at least one instance.
func (c *Catalog) callable(q Call) ([][]Instance, error) {
	port := c.Port(q.Service, q.Port)
	if port == 0 && c.Known(q.Service) {
		return nil, policy.Refuse(policy.ReasonPort, "%s has no port %d (it has %v)", q.Service, q.Port, c.Ports(q.Service))
	}
	pools := c.pools(q, port)
	if len(pools) == 0 {
		return nil, policy.Refuse(policy.ReasonInstance, "%s", c.nobody(q, port))
	}
	return pools, nil
}

// pools are the instances that serve, of the called service and of each one that
// stands in for it and that the caller may call itself.
func (c *Catalog) pools(q Call, port uint16) [][]Instance {
	var out [][]Instance
	own := c.serving(q.Service, port)
	if q.Subset != "" {
		own = c.inSubset(q.Service, q.Subset, port)
	}
	if len(own) > 0 {
		out = append(out, own)
	}
	for _, name := range c.Standby(q.Service, port) {
		if q.Allowed(name) {
			out = append(out, c.serving(name, c.standbyPort(q.Service, name, port)))
		}
	}
	return out
}

// nobody says why no instance serves a call.
func (c *Catalog) nobody(q Call, port uint16) string {
	out := fmt.Sprintf("no instance of %s is healthy", q.Service)
	if q.Subset != "" {
		out = fmt.Sprintf("no instance in the subset %s of %s is healthy", q.Subset, q.Service)
	} else if len(c.rules[q.Service].Split) > 0 {
		out += " and in a subset with a share"
	}
	var why []string
	for _, name := range c.rules[q.Service].Failover {
		if slices.Contains(c.Standby(q.Service, port), name) {
			why = append(why, fmt.Sprintf("the caller may not call %s", name))
		} else {
			why = append(why, fmt.Sprintf("%s has none either", name))
		}
	}
	return strings.Join(append([]string{out}, why...), ", ")
}

// split keeps the instances of one subset, which gets connections by its weight. A
// retry stays in a subset that it has tried before while it has instances left.
func (c *Catalog) split(how string, list []Instance, q Call) (of []Instance, subset identity.Name) {
	service := list[0].Service
	if q.Subset != "" && service == q.Service {
		return list, q.Subset
	}
	shares := c.shares(service, list)
	if len(shares) == 0 {
		return list, ""
	}
	r, n := c.rules[service], -1
	in := func(s share) func(Instance) bool {
		return func(i Instance) bool { return r.Subsets[s.subset].Has(i.Tags, i.Meta) }
	}
	tried := keep(c.services[service], q.Tried)
	if len(tried) > 0 {
		n = slices.IndexFunc(shares, func(s share) bool { return slices.ContainsFunc(tried, in(s)) })
	}
	if n < 0 {
		n = chooseShare(how, shares, q)
	}
	return keep(list, in(shares[n])), shares[n].subset
}

// Callable says whether an instance can be called at all.
func (in Instance) Callable() bool { return in.Healthy }

// nearest keeps the instances that this node reaches by itself; without one, those
// in its zone; without one, all.
func (c *Catalog) nearest(list []Instance) []Instance {
	here := keep(list, Instance.Direct)
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
