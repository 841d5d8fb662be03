// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"time"

	"tacit/identity"
	"tacit/node/api"
	"tacit/node/catalog"
	"tacit/policy"
)

// backend answers the CLI.
type backend struct{ n *Node }

// listenAPI opens the CLI's socket.
func (n *Node) listenAPI() (net.Listener, error) {
	if err := os.MkdirAll(n.cfg.RunDir, 0o755); err != nil {
		return nil, fmt.Errorf("--run-dir: %w", err)
	}
	return api.Listen(n.cfg.SocketPath())
}

// serveAPI answers on the CLI's socket until ctx ends.
func (n *Node) serveAPI(ctx context.Context, ln net.Listener) error {
	srv := api.NewServer(backend{n}, n.log)
	stop := context.AfterFunc(ctx, func() {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if srv.Shutdown(last) != nil {
			_ = srv.Close()
		}
	})
	defer stop()
	if err := srv.Serve(ln); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("the CLI's socket: %w", err)
	}
	return nil
}

// Nodes lists the members.
func (b backend) Nodes(context.Context) ([]api.Node, error) {
	alive, digests := b.liveness()
	var out []api.Node
	for _, m := range b.n.member.ledger.Members() {
		out = append(out, b.node(m.Node, alive[m.Node], digests[m.Node]))
	}
	slices.SortFunc(out, func(a, c api.Node) int { return compareNames(a.Name, c.Name) })
	return out, nil
}

// Node shows one member.
func (b backend) Node(_ context.Context, name api.Name) (*api.Node, error) {
	if _, ok := b.n.member.ledger.Member(name); !ok {
		return nil, api.Failed("tacit nodes lists the members", "no node is called %s", name)
	}
	alive, digests := b.liveness()
	out := b.node(name, alive[name], digests[name])
	return &out, nil
}

func (b backend) node(name identity.Name, alive bool, digest string) api.Node {
	l := b.n.member.ledger
	host, _ := l.Node(name)
	return api.Node{
		Name: name, ID: identity.NodeID(b.n.member.bundle.TrustDomain(), name).String(),
		Address: host.Address, Version: host.Version, Alive: alive, Local: name == b.n.cfg.name,
		Authority: slices.Contains(l.Authorities(), name), Operator: slices.Contains(b.operators(), string(name)),
		Grants: l.Grants(name), PolicyDigest: digest,
	}
}

// operators names the nodes that hold an operator key, sorted.
func (b backend) operators() []string {
	var out []string
	for _, o := range b.n.member.ledger.Operators() {
		out = append(out, string(o.Node))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// notOperator is the refusal of everything that needs an operator key.
func (b backend) notOperator(what string) error {
	return &api.Error{Code: api.CodeRefused, Nodes: b.operators(),
		Message: fmt.Sprintf("%s needs an operator key, and this node (%s) holds none", what, b.n.cfg.name),
		Hint:    "run the same command on a node that does"}
}

// Services lists the catalog.
func (b backend) Services(context.Context) ([]api.Service, error) {
	var out []api.Service
	for _, name := range b.n.catalog.Load().Services() {
		out = append(out, b.service(name))
	}
	return out, nil
}

// Service shows one service.
func (b backend) Service(_ context.Context, name api.Name) (*api.Service, error) {
	if len(b.n.catalog.Load().Instances(name)) == 0 {
		return nil, api.Failed("tacit services lists them", "no service is called %s", name)
	}
	out := b.service(name)
	return &out, nil
}

func (b backend) service(name identity.Name) api.Service {
	s := api.Service{Name: name, ID: identity.ServiceID(b.n.member.bundle.TrustDomain(), name).String()}
	s.Virtual4, s.Virtual6 = b.n.virtual(name)
	for _, in := range b.n.catalog.Load().Instances(name) {
		s.Instances = append(s.Instances, b.instance(in))
	}
	return s
}

func (b backend) instance(in catalog.Instance) api.Instance {
	out := api.Instance{ID: in.ID, Node: in.Node, Address: in.Addr.Addr().String(), Port: in.Port,
		Tags: in.Tags, Meta: in.Meta, Local: in.Here, Healthy: in.Alive, Permissive: in.Permissive}
	if !in.Here {
		return out
	}
	for _, s := range b.n.local.Load().services {
		if s.ID == in.ID {
			out.Listener, out.Source = api.Listener(s.listener.state), s.Source
			out.Healthy = s.Port == 0 || (s.listener.state != listenerForeign && s.listener.state != listenerNone)
		}
	}
	return out
}

// Resolve says what the mesh answers for a name.
func (b backend) Resolve(_ context.Context, name string) (*api.Resolution, error) {
	out := &api.Resolution{Name: name}
	service, why := b.n.dns.Service(name)
	out.Why = why
	if service == "" {
		return out, nil
	}
	out.Service = service
	out.Virtual4, out.Virtual6 = b.n.virtual(service)
	cat := b.n.catalog.Load()
	out.Ports = cat.Ports(service)
	if cat.DefaultPort(service) != 0 {
		out.Ports = append(out.Ports, 80, 443)
		slices.Sort(out.Ports)
		out.Ports = slices.Compact(out.Ports)
	}
	return out, nil
}

// rule is an intention as the CLI shows it.
func (b backend) rule(i policy.Intention) api.Rule {
	heads := b.n.member.ledger.Heads(kindIntention, string(i.Source)+">"+string(i.Destination))
	return api.Rule{Source: i.Source, Destination: i.Destination, Action: i.Action,
		Precedence: i.Precedence(), Description: i.Description, Conflict: len(heads) > 1}
}

func (b backend) verdict(d policy.Decision) api.Verdict {
	v := api.Verdict{Allowed: d.Allowed, Reason: d.Reason}
	if d.Rule != nil {
		r := b.rule(*d.Rule)
		v.Rule = &r
	}
	return v
}
