// SPDX-License-Identifier: Apache-2.0

package control

import (
	"cmp"
	"context"

	"tacit/identity"
	"tacit/node/api"
	"tacit/node/balance"
	"tacit/node/catalog"
	"tacit/node/control/resolvers"
	"tacit/node/inventory"
	"tacit/tproxy"
)

// services answers `tacit services` and `tacit service`, and in run.go `tacit run`.
type services struct{ *control }

// List lists the catalog.
func (s services) List(context.Context) ([]api.Service, error) {
	var out []api.Service
	for _, name := range s.Loop.Catalog().Services() {
		out = append(out, s.service(name))
	}
	return out, nil
}

// Show shows one service.
func (s services) Show(_ context.Context, name api.Name) (*api.Service, error) {
	if _, ruled := s.Loop.Catalog().Rules(name); !ruled && len(s.Loop.Catalog().Instances(name)) == 0 {
		return nil, api.Failed("tacit services lists them", "no service is called %s", name)
	}
	out := s.service(name)
	return &out, nil
}

func (s services) service(name identity.Name) api.Service {
	out := api.Service{Name: name, ID: identity.ServiceID(s.Member.Bundle.TrustDomain(), name).String()}
	out.Virtual4, out.Virtual6 = s.virtual(name)
	out.Balance, out.Retry = s.Loop.Catalog().Settings(name)
	out.Resolver = resolvers.Of(s.Records.View(), s.Loop.Catalog(), name)
	ejected := s.Proxy.Ejected(name)
	for _, in := range s.Loop.Catalog().Instances(name) {
		i := s.instance(in)
		if e, ok := ejected[balance.Key{Node: in.Node, ID: in.ID}]; ok {
			i.Ejected = &api.Ejected{Until: e.Until, Failures: e.Failures}
		}
		out.Instances = append(out.Instances, i)
	}
	return out
}

func (s services) instance(in catalog.Instance) api.Instance {
	out := api.Instance{ID: in.ID, Node: in.Node, Address: in.Addr.Addr().String(), Port: in.Port, Place: in.Place,
		Tags: in.Tags, Meta: in.Meta, Local: in.Here, Healthy: in.Healthy, Down: down(in), Permissive: in.Permissive,
		Weight: in.Weight, Zone: in.Zone, Outside: s.outsideOf(in)}
	if in.Outside != nil {
		out.Address = ""
	}
	if g := in.Ingress; g != nil {
		out.Ingress = &api.Ingress{Listen: g.Listen, Service: g.Service, Port: g.Port}
	}
	if !in.Here {
		return out
	}
	if own, ok := s.Inventory.View().ByID(in.ID); ok {
		out.Listener, out.Source, out.Ignored = api.Listener(own.Listener.State), own.Source, own.Ignored
		out.Checks, out.Settings = s.checks(in.ID), settings(own.Settings)
		out.ClientAddress = cmp.Or(string(own.ClientAddress), "service")
	}
	if out.Ingress != nil {
		out.Ingress.Connections = s.cameIn(in.Service)
	}
	return out
}

// cameIn counts the live connections of an ingress of this node.
func (s services) cameIn(name identity.Name) int {
	n := 0
	for _, f := range s.Proxy.Flows() {
		if f.Source == name && f.Direction != tproxy.DirectionIn {
			n++
		}
	}
	return n
}

// down is why an instance isn't healthy.
func down(in catalog.Instance) string {
	if !in.Alive && !in.Direct() {
		return api.DownNode
	}
	return in.Down
}

// grantHere makes sure that this node may run the service, and on an operator's node
// that it may stand for what it claims.
func (s services) grantHere(ctx context.Context, service identity.Name, claims ...string) (signed bool, err error) {
	granted := s.Records.View().Granted(s.Settings.Name, service)
	if !granted && s.Member.Operator.Key() != nil {
		if err := s.needsOperator(ctx, "granting"); err != nil {
			return false, err
		}
	}
	if err := s.Signer.GrantOwn(service, claims...); err != nil {
		return false, err
	}
	return !granted, nil
}

// Deregister forgets instances that were registered by command.
func (s services) Deregister(_ context.Context, r api.Deregistration) (*api.DeregisterResult, error) {
	out := &api.DeregisterResult{Removed: []string{}}
	for _, own := range s.Inventory.View().Services {
		if own.Name != r.Name || (r.ID != "" && own.ID != r.ID) {
			continue
		}
		if own.Source != inventory.SourceCommand {
			out.Notes = append(out.Notes, own.ID+" is defined in "+own.Source+"; remove it there")
			continue
		}
		if err := s.Inventory.Deregister(own.ID); err != nil {
			return nil, err
		}
		out.Removed = append(out.Removed, own.ID)
	}
	if len(out.Removed) == 0 {
		hint := "tacit services lists the instances of this node"
		if len(out.Notes) > 0 {
			hint = out.Notes[0]
		}
		return nil, api.Refused(hint, "no instance of %s on this node was registered by command", r.Name)
	}
	s.Loop.Settle()
	return out, s.Tree.RemoveService(r.Name)
}
