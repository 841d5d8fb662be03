// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"slices"

	"tacit/node/health"
	"tacit/policy/shortage"
	"tacit/redirect"
)

// Restate computes routes and rules from the present listeners and resolvers,
// and puts them in force.
func (d *Datapath) Restate() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.restate()
}

// Answer has what programs answer from these ports of loopback addresses stay on
// this host: they see their callers' own addresses.
func (d *Datapath) Answer(ports []uint16) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if slices.Equal(ports, d.answers) {
		return nil
	}
	d.answers = ports
	if d.listeners == nil {
		return nil // Open restates
	}
	return d.restate()
}

// restate is Restate; the caller holds mu.
func (d *Datapath) restate() error {
	c, err := d.redirectConfig()
	if err != nil {
		return err
	}
	d.plan = redirect.NewPlan(c)
	return redirect.Apply(d.plan)
}

func (d *Datapath) redirectConfig() (redirect.Config, error) {
	c, noIptables := Steering(d.conf.Settings, d.resolvers.addrs())
	c.Answers = d.answers
	c.Port4, c.Port6 = d.listeners.Ports()
	c.DNSPort4, c.DNSPort6 = d.resolvers.directPorts()
	if b, ok := d.conf.Hooks.(*tproxyBackend); ok {
		return c, b.steer(&c)
	}
	if noIptables {
		d.conf.Log.Warn(AdviceIptables)
	}
	return c, nil
}

// Drift lists how routes and rules differ from the plan.
func (d *Datapath) Drift() ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.drift.Drift(d.plan)
}

// repairRoutes sets what is missing again.
func (d *Datapath) repairRoutes() {
	if shortage.Now() != nil {
		return // see lookAround
	}
	missing, err := d.Drift()
	if err == nil && len(missing) > 0 {
		err = d.Restate()
	}
	news := d.conf.Health.Set(health.Routes, "", err)
	switch {
	case err != nil && news:
		d.conf.Log.Error("routes and rules can't be examined or set again", "found", missing, "err", err)
	case err == nil && len(missing) > 0:
		d.conf.Log.Warn("routes or rules were changed by others; they are set again", "found", missing)
		d.conf.Health.Repaired(string(health.Routes), missing[0]+andMore(len(missing)-1))
	}
}

func andMore(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" and %d more", n)
}

// Shadows are routes of others in the virtual ranges.
func (d *Datapath) Shadows() ([]redirect.Shadow, error) {
	return d.drift.Shadows(redirect.Config{Range4: d.conf.Settings.Range4, Range6: d.conf.Settings.Range6})
}

// shadowed names the routes of others that take captured connections away. The
// egress program keeps what they take from leaving the host.
func (d *Datapath) shadowed() error {
	found, err := d.Shadows()
	if err != nil {
		return err
	}
	var errs []error
	for _, s := range found {
		if s.Taken {
			errs = append(errs, fmt.Errorf("%s takes captured connections away: remove it (ip route del)", s.Route))
		}
	}
	return errors.Join(errs...)
}
