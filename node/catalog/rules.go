// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"tacit/identity"
	"tacit/policy/resolver"
)

// Rules are what operators have set for a service's connections; ok is false where
// they have set nothing.
func (c *Catalog) Rules(service identity.Name) (r resolver.Rules, ok bool) {
	r, ok = c.rules[service]
	return r, ok
}

// AllRules lists what operators have set, by service.
func (c *Catalog) AllRules() []resolver.Rules {
	var out []resolver.Rules
	for _, name := range slices.Sorted(maps.Keys(c.rules)) {
		out = append(out, c.rules[name])
	}
	return out
}

// PolicyDigest extends the digest of a policy by what operators have set for
// connections; without that it is the policy's own.
func (c *Catalog) PolicyDigest(policy string) string {
	rules := c.rulesText()
	if rules == "" {
		return policy
	}
	sum := sha256.Sum256([]byte(policy + rules))
	return hex.EncodeToString(sum[:len(policy)/2])
}

// text is all rules, one line each.
func (c *Catalog) text() string {
	var out strings.Builder
	for _, r := range c.AllRules() {
		line, err := json.Marshal(r)
		if err != nil {
			continue // the ledger has read them from JSON
		}
		out.Write(append(line, '\n'))
	}
	return out.String()
}

// Serves reports whether new connections to the instance's service may go to it: it
// can be called, and a split leaves it in.
func (c *Catalog) Serves(in Instance) bool {
	return in.Callable() && c.rules[in.Service].Takes(in.Tags, in.Meta)
}

// Mixed reports whether connections to a port are split now: more than one subset
// has an instance that serves. Then being near doesn't decide alone.
func (c *Catalog) Mixed(service identity.Name, port uint16) bool {
	return len(c.rules[service].Split) > 0 && len(c.shares(service, c.serving(service, port))) > 1
}

// Standby lists the services that answer for one whose port has no instance that
// serves: those which have one, in the operator's order. Their own failover isn't
// followed.
func (c *Catalog) Standby(service identity.Name, port uint16) []identity.Name {
	var out []identity.Name
	for _, name := range c.rules[service].Failover {
		if len(c.serving(name, c.standbyPort(service, name, port))) > 0 {
			out = append(out, name)
		}
	}
	return out
}

// standbyPort is the port of a standby for one of the service: the same one, or
// where both have just one port, that.
func (c *Catalog) standbyPort(service, standby identity.Name, port uint16) uint16 {
	if own := c.Port(standby, port); own != 0 || c.DefaultPort(service) == 0 {
		return own
	}
	return c.DefaultPort(standby)
}

// serving lists the instances of a port that new connections may go to.
func (c *Catalog) serving(service identity.Name, port uint16) []Instance {
	return keep(c.services[service], func(in Instance) bool { return port != 0 && in.Port == port && c.Serves(in) })
}

// Subsets lists the names of a service's subsets, sorted.
func (c *Catalog) Subsets(service identity.Name) []identity.Name {
	return slices.Sorted(maps.Keys(c.rules[service].Subsets))
}

// SubsetServes reports whether a subset has an instance that can be called on a port,
// whatever its weight in a split.
func (c *Catalog) SubsetServes(service, subset identity.Name, port uint16) bool {
	return len(c.inSubset(service, subset, port)) > 0
}

// inSubset lists the instances of a port that can be called by the subset's name.
func (c *Catalog) inSubset(service, subset identity.Name, port uint16) []Instance {
	s, ok := c.rules[service].Subsets[subset]
	return keep(c.services[service], func(in Instance) bool {
		return ok && port != 0 && in.Port == port && in.Callable() && s.Has(in.Tags, in.Meta)
	})
}

// share is a subset's part of new connections.
type share struct {
	subset identity.Name
	weight int
}

// shares lists the subsets of a split that have one of these instances, by name.
func (c *Catalog) shares(service identity.Name, list []Instance) []share {
	r := c.rules[service]
	var out []share
	for _, name := range slices.Sorted(maps.Keys(r.Split)) {
		has := func(in Instance) bool { return r.Subsets[name].Has(in.Tags, in.Meta) }
		if r.Split[name] > 0 && slices.ContainsFunc(list, has) {
			out = append(out, share{name, r.Split[name]})
		}
	}
	return out
}
