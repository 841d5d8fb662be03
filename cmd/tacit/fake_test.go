// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"tacit/node/api"
	"tacit/policy/resolver"
)

// fake is the daemon on host1 of a mesh of three nodes. It writes the last change
// that it was asked for to file, as one JSON value that scripts compare.
type fake struct {
	mu   sync.Mutex
	file string
}

// backend answers every noun with the fake.
func (f *fake) backend() api.Backend {
	return api.Backend{Host: fakeHost{f}, Nodes: fakeNodes{f}, Services: fakeServices{f}, Intentions: fakeIntentions{f}, Keys: fakeKeys{f}, Audit: fakeAudit{}}
}

type (
	fakeHost       struct{ *fake }
	fakeNodes      struct{ *fake }
	fakeServices   struct{ *fake }
	fakeIntentions struct{ *fake }
)

type fakeAudit struct{}

func (fakeAudit) Changes(context.Context, uint64) (*api.AuditList, error) {
	return &api.AuditList{Changes: []api.AuditEntry{
		{Seq: 1, Time: noon, By: "operator host1", Kind: "intention", Subject: "web>db", After: "allow (orders)"},
		{Seq: 2, Time: noon.Add(time.Minute), By: "operator host2", Kind: "intention", Subject: "web>db", Before: "allow (orders)", After: "deny"},
		{Seq: 3, Time: noon.Add(time.Hour), By: "root", Kind: "revocation", Subject: strings.Repeat("0f", 32), After: "revoked host2 (laptop stolen)"},
		{Seq: 4, Time: noon.Add(time.Hour), By: "root", Kind: "intention", Subject: "web>db", Before: "deny", After: "", Why: "follows from revocation 0f0f0f0f0f0f"},
	}}, nil
}

func (f *fake) note(v any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	text, err := json.Marshal(v)
	if err == nil {
		err = os.WriteFile(f.file, append(text, '\n'), 0o600)
	}
	if err != nil {
		panic(err)
	}
}

var (
	noon     = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	longAgo  = time.Now().Add(-2*time.Hour - 5*time.Minute - 5*time.Second)
	v4, v6   = netip.MustParseAddr("240.64.0.2"), netip.MustParseAddr("fd7a:ac17::2")
	denyRule = api.Rule{Source: "*", Destination: "db", Action: denied, Precedence: 8, Description: "by default nobody"}
	webRule  = api.Rule{Source: "web", Destination: "db", Action: allowed, By: "operator host1", Since: noon, Precedence: 9, Description: "orders are kept there"}
)

const (
	denied  = api.Action(1)
	allowed = api.Action(2)
)

func (f fakeHost) Flows(_ context.Context, q api.FlowQuery) (*api.FlowList, error) {
	list := &api.FlowList{Last: 3, Sums: api.FlowTotals{Dropped: 5, Lost: map[api.Reason]uint64{"guard": 7}}, Flows: []api.FlowRecord{
		{Count: 12, Seq: 1, Time: noon, Source: "web", Destination: "db", Direction: "hook", Port: 5432, Program: "psql", Reason: "intention"},
		{Count: 1, Seq: 2, Time: noon, Destination: "db", Direction: "hook", Port: 5432, Program: "curl", Reason: "identity"},
		{Count: 1, Seq: 3, Time: noon, Source: "web", Destination: "db", Node: "host2", Direction: "out", Port: 5432, Reason: "closed", Sent: 10, Received: 2000, Duration: 1500 * time.Millisecond},
		{Count: 1, Time: noon, Destination: "db", Node: "host2", Direction: "out", Port: 5432, Live: true, Sent: 1, Duration: 2 * time.Second},
		{Count: 1, Time: noon, Source: "web", Destination: "db-standby", For: "db", Node: "host3", Direction: "out", Port: 5432, Live: true},
	}}
	list.Flows = q.Select(noon.Add(time.Second), list.Flows[min(int(q.After), 3):])
	return list, nil
}

func (f fakeHost) Status(context.Context) (*api.Status, error) {
	s := &api.Status{Node: "host1", TrustDomain: "tacit.local", Version: "dev", Healthy: true, Revision: 12, Digest: "8f0e2b7d41c09a35",
		UptimeSeconds: 7500, Counters: map[api.Reason]uint64{"intention": 3, "allowed": 40},
		Checks:       []api.Check{{Name: "capture", OK: true, Reason: "a connection to a virtual address arrived"}, {Name: "gossip", OK: true, Reason: "3 of 3 nodes answer"}},
		Certificates: []api.Certificate{{ID: "spiffe://tacit.local/node/host1", NotAfter: noon}}}
	if _, err := os.Stat(f.file + ".sick"); err == nil {
		s.Healthy = false
		s.LanePort = api.LanePort{Refused: map[api.Reason]uint64{"share": 9120, "authority": 3}, Cut: map[api.Reason]uint64{"protocol": 2}}
		s.Checks[1] = api.Check{Name: "gossip", Reason: "2 of 3 nodes answer", Hint: "is port 7946 open on host3?"}
	}
	if _, err := os.Stat(f.file + ".tproxy"); err == nil {
		s.Unheld = []string{"fail closed (1)", "deny is complete (2)"}
	}
	return s, nil
}

func (f fakeHost) Confirm(context.Context, api.ConfirmRequest) (*api.ConfirmResult, error) {
	if os.Remove(f.file+".waits") != nil {
		return &api.ConfirmResult{}, nil
	}
	return &api.ConfirmResult{Confirmed: true, Permanent: []string{"12 eBPF programs", "ip -4 route add local 240.64.0.0/12 dev lo"}}, nil
}

func (f fakeHost) Resolve(_ context.Context, name string) (*api.Resolution, error) {
	if service, _, _ := strings.Cut(strings.ToLower(name), "."); service == "db" {
		return &api.Resolution{Name: name, Service: "db", Virtual4: v4, Virtual6: v6, Ports: []uint16{80, 443, 5432}, Why: "db is a service of the mesh"}, nil
	}
	return &api.Resolution{Name: name, Why: "no service has this name; the query goes to the host's resolver"}, nil
}

func nodes() []api.Node {
	return []api.Node{
		{Name: "host1", ID: "spiffe://tacit.local/node/host1", Address: "192.0.2.1", Alive: true, Local: true, Authority: true, Operator: true, Grants: []api.Name{"web"}, PolicyDigest: "8f0e2b7d41c09a35", Version: "dev"},
		{Name: "host2", ID: "spiffe://tacit.local/node/host2", Address: "192.0.2.2", Alive: true, Keys: []api.Key{keyOf("a2", api.KeyNode, "host2")}, Grants: []api.Name{"api", "db"}, PolicyDigest: "8f0e2b7d41c09a35", Version: "dev"},
		{Name: "host3", ID: "spiffe://tacit.local/node/host3", Address: "192.0.2.3", PolicyDigest: "51d20c9377aa0be1", Version: "dev"},
	}
}

func (f fakeNodes) List(context.Context) ([]api.Node, error) { return nodes(), nil }

func (f fakeNodes) Show(_ context.Context, name api.Name) (*api.Node, error) {
	for _, n := range nodes() {
		if n.Name == name {
			return &n, nil
		}
	}
	return nil, api.Failed("tacit nodes lists the members", "no node is called %s", name)
}

func (f fakeNodes) Grant(ctx context.Context, r api.GrantRequest) (*api.NodeResult, error) {
	f.note(r)
	n, err := f.Show(ctx, r.Node)
	if err != nil {
		return nil, err
	}
	if n.Grants = append(n.Grants, r.Services...); r.Withdraw {
		n.Grants = nil
	}
	return &api.NodeResult{Node: *n}, nil
}

func (f fakeNodes) CreateToken(_ context.Context, r api.TokenRequest) (*api.Token, error) {
	f.note(r)
	return &api.Token{Token: "tacit2.c2VjcmV0", Node: r.Node, Services: r.Services, Expires: noon}, nil
}

func db() api.Service {
	return api.Service{Name: "db", ID: "spiffe://tacit.local/svc/db", Virtual4: v4, Virtual6: v6, Balance: "round_robin", Resolver: &api.Resolver{
		Rules: api.Rules{Service: "db", Subsets: map[api.Name]resolver.Subset{"v1": {Tag: "v1"}, "v2": {Meta: map[string]string{"version": "2"}}},
			Split: map[api.Name]int{"v1": 90, "v2": 10}, Failover: []api.Name{"db-standby", "db-far"}},
		Sets:    []api.Subset{{Name: "v1", Instances: 1, Healthy: 1, Percent: 100}, {Name: "v2", Instances: 1}},
		Standby: "db-far", SignedBy: []api.Name{"host1", "host2"}, Conflict: true}, Instances: []api.Instance{
		{ID: "db-1", Node: "host1", Address: "192.0.2.1", Port: 5432, Local: true, Healthy: true, Listener: api.ListenerVerified, Defined: api.Defined{ClientAddress: "proxy_protocol", Source: "/etc/tacit/services.d/db.hcl:1",
			Settings: []api.Setting{{Key: "name", Value: "db", Source: "/etc/tacit/services.d/db.hcl:2"}, {Key: "port", Value: "5432", Source: "/etc/tacit/services.d/db.hcl:4"}},
			Ignored:  []string{"/etc/tacit/services.d/db.hcl:3: service.token: there are no ACL tokens; a node's grants say what it may run"},
			Checks: []api.HealthCheck{
				{ID: "service:db-1:1", Name: "ping", Kind: "tcp", Status: "passing", Since: longAgo, Ran: longAgo, Source: "/etc/tacit/services.d/db.hcl:5", Output: "127.0.0.1:5432: connected"},
				{ID: "service:db-1:2", Name: "replication", Kind: "script", Status: "critical", Since: longAgo, Ran: longAgo, Source: "/etc/tacit/services.d/db.hcl:9",
					Output: "two lines\n\x1b[31mstandby host3 is 40 s behind, which is more than the 30 s that are allowed in /etc/postgresql/lag.conf\n"},
				{ID: "service:db-1:3", Name: "backup", Kind: "ttl", Status: "critical", Since: longAgo, Source: "/etc/tacit/services.d/db.hcl:14"},
			}}},
		{ID: "db-2", Node: "host2", Address: "192.0.2.2", Port: 5432, Down: "listener", Permissive: true, Ejected: &api.Ejected{Until: noon, Failures: 3}},
	}}
}

func (f fakeServices) List(context.Context) ([]api.Service, error) {
	return []api.Service{db(), {Name: "web", ID: "spiffe://tacit.local/svc/web", Instances: []api.Instance{{ID: "web", Node: "host1", Local: true, Healthy: true, Defined: api.Defined{Source: "command"}}}}, public()}, nil
}

func public() api.Service {
	return api.Service{Name: "ingress/public", ID: "spiffe://tacit.local/ingress/public", Instances: []api.Instance{
		{ID: "ingress/public", Node: "host1", Local: true, Healthy: true, Defined: api.Defined{Source: "/etc/tacit/services.d/public.hcl:1"},
			Ingress: &api.Ingress{Listen: "*:8080", Service: "web", Connections: 3}},
		{ID: "ingress/public", Node: "host2", Down: "default", Ingress: &api.Ingress{Listen: "192.0.2.2:80", Service: "web", Port: 8443}},
	}}
}

func (f fakeServices) Show(_ context.Context, name api.Name) (*api.Service, error) {
	if name == "db" {
		s := db()
		return &s, nil
	}
	if name == "ingress/public" {
		s := public()
		return &s, nil
	}
	if name == "rds" {
		return &api.Service{Name: "rds", ID: "spiffe://tacit.local/svc/rds", Virtual4: v4, Instances: []api.Instance{
			{ID: "rds", Node: "host1", Port: 5432, Local: true, Healthy: true, Listener: api.ListenerOutside, Defined: api.Defined{Source: "/etc/tacit/services.d/rds.hcl:1"},
				Outside: &api.Outside{Hosts: []string{"db.abc.rds.example"}, Addresses: []string{"203.0.113.5:5432"}}},
			{ID: "rds", Node: "host2", Port: 5432, Down: "address", Outside: &api.Outside{Hosts: []string{"db.abc.rds.example"}, Anywhere: true}},
		}}, nil
	}
	return nil, api.Failed("tacit services lists them", "no service is called %s", name)
}

// counted is a mesh of three of which host3 is down.
func counted(live, said bool, elapsed time.Duration) api.Counted {
	out := api.Counted{Nodes: 3, Live: live, Elapsed: elapsed, Unreached: []api.Unreached{{Name: "host3", Since: down, InForce: said}}}
	if live {
		out.Nodes = 2
	} else if !said {
		out.Waiting = []string{"host3"}
	}
	return out
}

var down = time.Date(2026, 1, 2, 12, 3, 11, 0, time.Local)

func (f fakeServices) Register(_ context.Context, r api.Registration) (*api.RegisterResult, error) {
	f.note(r)
	if r.Port == 22 && !r.Yes {
		return nil, api.Refused("repeat it with --yes if that is meant", "port 22 carries your own session from 198.51.100.7")
	}
	var spread *api.Spread
	if r.Wait {
		spread = &api.Spread{Resolves: 2, Counted: counted(r.Live, false, r.Timeout)}
	}
	return &api.RegisterResult{Spread: spread, Service: api.Service{Name: r.Name, Virtual4: v4, Virtual6: v6}, GrantSigned: true,
		Warnings: []string{"nobody may call " + string(r.Name) + " yet: tacit intention allow SRC " + string(r.Name)}}, nil
}

func (f fakeServices) Deregister(_ context.Context, r api.Deregistration) (*api.DeregisterResult, error) {
	f.note(r)
	if r.Name == "nginx" {
		return nil, api.Refused("it is defined in /etc/tacit/services.d/nginx.hcl:1; remove it there", "no instance of nginx on this node was registered by command")
	}
	return &api.DeregisterResult{Removed: []string{"db", "db-2"}}, nil
}

func (f fakeServices) Report(_ context.Context, r api.CheckReport) (*api.CheckReported, error) {
	f.note(r)
	if r.ID != "backup" {
		return nil, api.Failed("tacit service show NAME lists the checks of a service", "no check of this node has the id %s; ttl checks: db-1/backup", r.ID)
	}
	return &api.CheckReported{ID: r.ID, Status: r.Status}, nil
}

func (f fakeServices) Run(ctx context.Context, r api.RunRequest) (*api.RunResult, error) {
	peer, _ := api.PeerFrom(ctx)
	f.note(peer.PID)
	if r.Service == "db" {
		return nil, &api.Error{Code: api.CodeRefused, Message: "service db is not granted to node host1", Reason: "grant",
			Hint: "on a node with an operator key: tacit node grant host1 --service db", Nodes: []string{"host2"}}
	}
	return &api.RunResult{Service: r.Service, Cgroup: "/tacit/service/" + string(r.Service), Registered: r.Service == "new", GrantSigned: r.Service == "new"}, nil
}

func (f fakeIntentions) List(context.Context) (*api.IntentionList, error) {
	conflict := api.Rule{Source: "api", Destination: "*", Action: denied, Precedence: 6, Conflict: true, Description: strings.Repeat("a very long story ", 10)}
	return &api.IntentionList{Default: denied, Rules: []api.Rule{webRule, denyRule, conflict}}, nil
}

func (f fakeIntentions) Change(ctx context.Context, r api.IntentionChange) (*api.ChangeResult, error) {
	f.note(r)
	before := api.Verdict{Reason: "default"}
	out := &api.ChangeResult{Applied: !r.DryRun, Before: before, After: before, Reach: api.Reach{InForce: 3, Counted: api.Counted{Nodes: 3, Elapsed: 38 * time.Millisecond}}}
	switch {
	case r.Destination == "vault":
		return nil, &api.Error{Code: api.CodeRefused, Message: "changing an intention needs an operator key, and this node holds none", Nodes: []string{"host2", "host3"}}
	case r.Destination == "cache": // one node never applies it
		out.InForce, out.Counted = 2, counted(r.Live, false, r.Timeout)
	case r.Destination == "proven": // it did, and is down since
		out.InForce, out.Counted = 3, counted(r.Live, true, r.Timeout)
	case r.Destination == "slow":
		timer := time.NewTimer(1200 * time.Millisecond)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		out.Elapsed = 1200 * time.Millisecond
	case r.Destination == "typo":
		out.Warnings = []string{"no instance of typo is known yet"}
	}
	switch r.Action {
	case api.ChangeAllow:
		out.After = api.Verdict{Allowed: true, Reason: "allowed", Rule: &api.Rule{Source: r.Source, Destination: r.Destination, Action: allowed}}
	case api.ChangeDeny:
		out.Before = api.Verdict{Allowed: true, Reason: "allowed", Rule: &webRule}
		out.After = api.Verdict{Reason: "intention", Rule: &api.Rule{Source: r.Source, Destination: r.Destination, Action: denied}}
		out.LiveAffected = 2
	}
	return out, nil
}

func (f fakeIntentions) Apply(_ context.Context, r api.ApplyRequest) (*api.ApplyResult, error) {
	f.note(r)
	if r.Prune && !r.Yes && !r.DryRun {
		return nil, api.Refused("look at the plan (--dry-run), and repeat it with --yes if that is meant", "--prune would delete 2 of 3 intentions")
	}
	out := &api.ApplyResult{Applied: !r.DryRun, Unchanged: 1, LiveAffected: 1, Plan: []api.Planned{}, Reach: api.Reach{InForce: 3, Counted: api.Counted{Nodes: 3, Elapsed: 38 * time.Millisecond}}}
	for _, w := range r.Intentions {
		p := api.Planned{Operation: api.OperationAdd, From: w.From, After: &api.Rule{Source: w.Source, Destination: w.Destination, Action: allowed}}
		if w.Action == api.ChangeDeny {
			p.Operation, p.Before, p.After.Action = api.OperationChange, &api.Rule{Source: w.Source, Destination: w.Destination, Action: allowed}, denied
		}
		out.Plan = append(out.Plan, p)
	}
	for i, w := range r.Resolvers {
		p := api.PlannedRules{Operation: api.OperationAdd, Service: w.Service, After: &w.Rules, From: w.From}
		if i > 0 {
			p.Operation, p.Before = api.OperationChange, &api.Rules{Failover: []api.Name{"old"}}
			out.Resolvers = append(out.Resolvers, p, api.PlannedRules{Operation: api.OperationRemove, Service: "gone", Before: &api.Rules{Failover: []api.Name{"db"}}})
			continue
		}
		out.Resolvers = append(out.Resolvers, p)
	}
	if r.Prune {
		out.Plan = append(out.Plan, api.Planned{Operation: api.OperationRemove, Before: &denyRule})
	}
	return out, nil
}

func (f fakeIntentions) Check(_ context.Context, source, destination api.Name) (*api.Verdict, error) {
	switch {
	case destination == "vault":
		return nil, api.Refused("", "this node has left the mesh")
	case source == "web" && destination == "db":
		return &api.Verdict{Allowed: true, Reason: "allowed", Rule: &webRule}, nil
	case destination == "db":
		return &api.Verdict{Reason: "intention", Rule: &denyRule}, nil
	}
	return &api.Verdict{Reason: "default"}, nil
}

func (f fakeIntentions) Explain(ctx context.Context, source, destination api.Name) (*api.Explanation, error) {
	v, err := f.Check(ctx, source, destination)
	if err != nil {
		return nil, err
	}
	x := &api.Explanation{Source: source, Destination: destination, Verdict: *v, Default: denied, Digest: "8f0e2b7d41c09a35", Winner: v.Rule, Nodes: []api.NodePolicy{
		{Name: "host1", Digest: "8f0e2b7d41c09a35", InForce: true, Alive: true}, {Name: "host2", Digest: "51d20c9377aa0be1", Alive: true}, {Name: "host3", Since: down}}}
	if !v.Allowed {
		x.Why = "No intention matches, so the default decides: deny."
		x.Unknown = []api.Name{destination}
		return x, nil
	}
	x.Losers = []api.Rule{denyRule}
	x.Why = "The intention allow web -> db decides: it names both services. One less specific intention matches too, and loses."
	x.Live = []api.Flow{{Source: source, Destination: destination, Node: "host2", Direction: "out", Client: netip.MustParseAddrPort("192.0.2.1:40112"), Port: 5432, Start: noon, Sent: 900, Received: 5 << 20},
		{Source: source, Destination: "db-standby", For: destination, Node: "host2", Direction: "out", Client: netip.MustParseAddrPort("192.0.2.1:40113"), Port: 5432, Start: noon}}
	return x, nil
}
