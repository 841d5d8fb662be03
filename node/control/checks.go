// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"

	"tacit/node/api"
	"tacit/node/definition"
)

// checks are the health checks of an instance of this node.
func (s services) checks(instance string) []api.HealthCheck {
	var out []api.HealthCheck
	for _, r := range s.Checks.Results(instance) {
		out = append(out, api.HealthCheck{ID: r.ID, Name: r.Name, Kind: string(r.Kind), Status: r.Status, Output: r.Output,
			Since: r.Since, Ran: r.Ran, Source: r.Source})
	}
	return out
}

func settings(list []definition.Setting) (out []api.Setting) {
	for _, s := range list {
		out = append(out, api.Setting(s))
	}
	return out
}

// Report takes over what somebody says about a ttl check.
func (s services) Report(_ context.Context, r api.CheckReport) (*api.CheckReported, error) {
	if err := s.Checks.Update(r.ID, r.Status, r.Note); err != nil {
		return nil, api.Failed("tacit service show NAME lists the checks of a service", "%s", err)
	}
	return &api.CheckReported{ID: r.ID, Status: r.Status}, nil
}
