// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"strconv"

	"tacit/identity"
	"tacit/node/api"
	"tacit/node/definition"
	"tacit/node/inventory"
)

// Run moves the calling process into the service's workload.
func (s services) Run(ctx context.Context, r api.RunRequest) (*api.RunResult, error) {
	peer, ok := api.PeerFrom(ctx)
	if !ok {
		return nil, api.Failed("", "the kernel doesn't say which process is asking")
	}
	out := &api.RunResult{Service: r.Service}
	if err := s.ensureDefined(ctx, r.Service, out); err != nil {
		return nil, err
	}
	if _, err := s.Tree.ServiceCgroup(r.Service); err != nil {
		return nil, err
	}
	s.Inventory.Rescan()
	s.Loop.Settle() // the workload is in the kernel's map before the process is in the cgroup
	pidfd := -1
	if peer.PIDFD != nil {
		pidfd = int(peer.PIDFD.Fd())
	}
	if err := s.Tree.Admit(r.Service, int(peer.PID), pidfd); err != nil {
		return nil, err
	}
	out.Cgroup = s.Tree.ServicePath(r.Service)
	s.Settings.Log.Info("workload started", "service", r.Service, "pid", strconv.Itoa(int(peer.PID)), "uid", peer.UID)
	return out, nil
}

// ensureDefined registers a service that is run and isn't defined anywhere.
func (s services) ensureDefined(ctx context.Context, service identity.Name, out *api.RunResult) error {
	var err error
	if out.GrantSigned, err = s.grantHere(ctx, service); err != nil {
		return err
	}
	for _, own := range s.Inventory.View().Services {
		if own.Name == service {
			return nil
		}
	}
	out.Registered = true
	return s.Inventory.Register(definition.Definition{Name: service, ID: string(service), Source: inventory.SourceCommand})
}
