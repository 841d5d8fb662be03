// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"log/slog"
	"reflect"
	"slices"
	"time"

	"tacit/identity"
	"tacit/node/catalog"
	"tacit/node/definition"
	"tacit/node/health"
	"tacit/node/inventory"
	"tacit/policy/ledger/statement"
)

// Signer signs on behalf of this node.
type Signer interface {
	// GrantOwn is nil when this node may run the service; a node with an
	// operator key grants itself what root has defined on it, and vouches for the
	// real names and addresses that it claims.
	GrantOwn(service identity.Name, claims ...string) error
	// SignInstance publishes or, with withdraw, takes back an instance.
	SignInstance(body statement.Instance, withdraw bool) error
}

// An instance whose state changes back and forth is signed again at most rate
// times in each period.
const (
	rate   = 4
	period = time.Second
)

// Publisher keeps the signed instances equal to those that are defined here.
type Publisher struct {
	Self    identity.Name
	Records Records
	Signer  Signer
	Health  Health
	Log     *slog.Logger
	// Critical returns the health check that an instance fails, or why an ingress
	// is closed, as in statement.Instance.Down; "" is none. It may be nil.
	Critical func(id string) string
	// In is how long nothing may be signed yet. It may be nil.
	In func() time.Duration

	down   map[string]string      // by id, as of the last Judge
	signed map[string][]time.Time // the last rate signatures of each id
}

// Judge finds out which instances of a view can serve.
func (p *Publisher) Judge(v *inventory.View) {
	p.down = make(map[string]string, len(v.Services))
	for _, s := range v.Services {
		p.down[s.ID] = p.downOf(s)
	}
}

func (p *Publisher) downOf(s inventory.Service) string {
	switch {
	case s.Port != 0 && !s.Listener.Serves():
		return statement.DownListener
	case p.Critical != nil:
		return p.Critical(s.ID)
	}
	return ""
}

// Newest are the records, where those of this node's instances have the state of
// the last Judge, which may not be signed yet.
func (p *Publisher) Newest() catalog.Records { return newest{p.Records, p} }

type newest struct {
	Records
	*Publisher
}

func (n newest) Instances() []statement.Instance {
	all := slices.Clone(n.Records.Instances())
	for k := range all {
		if down, known := n.down[all[k].ID]; known && all[k].Node == n.Self {
			all[k].Down = down
		}
	}
	return all
}

// Publish signs the instances of a view that are new or changed since the last
// Judge, and withdraws those that are gone. It reports whether every signature was
// made and kept; a missing grant comes as a record and needs no other try. wait is
// how long something has to wait, 0 where nothing does.
func (p *Publisher) Publish(v *inventory.View) (ok bool, wait time.Duration) {
	if p.In != nil {
		if wait = p.In(); wait > 0 {
			return true, wait
		}
	}
	want, grants, signed := map[string]statement.Instance{}, map[string]error{}, map[string]error{}
	for _, s := range v.Services {
		if err := p.Signer.GrantOwn(s.Name, s.Outside.Claims()...); err != nil {
			grants[string(s.Name)] = err
			continue
		}
		want[s.ID] = p.body(s)
	}
	for _, old := range p.Records.Published(p.Self) {
		body, keep := want[old.ID]
		if !keep {
			signed[old.ID] = p.sign(old, true)
			continue
		}
		later := p.held(body, old)
		wait = max(wait, later)
		if later > 0 || reflect.DeepEqual(normal(body), normal(old)) {
			delete(want, old.ID)
		}
	}
	for _, body := range want {
		signed[body.ID] = p.sign(body, false)
	}
	p.Health.Replace(health.Grant, grants)
	p.Health.Replace(health.Publish, signed)
	for _, err := range signed {
		if err != nil {
			return false, wait
		}
	}
	return true, wait
}

// held is how long an instance has to wait which differs from its record only in
// its state.
func (p *Publisher) held(body, old statement.Instance) time.Duration {
	last := p.signed[body.ID]
	if body.Down == old.Down || len(last) < rate {
		return 0
	}
	old.Down = body.Down
	if !reflect.DeepEqual(normal(body), normal(old)) {
		return 0
	}
	return max(0, period-time.Since(last[0]))
}

func (p *Publisher) body(s inventory.Service) statement.Instance {
	out := statement.Instance{Node: p.Self, Service: s.Name, ID: s.ID, Port: s.Port, Address: s.Address,
		Tags: s.Tags, Meta: s.Meta, Weight: s.Weight, Permissive: s.Permissive, Place: s.Place, Down: p.down[s.ID],
		Balance: s.Balance, Retry: s.Retry, Outside: outside(s)}
	if in := s.Ingress; in != nil {
		out.Ingress = &statement.Ingress{Listen: in.Listen(), Service: in.Service, Port: in.ServicePort}
	}
	return out
}

func outside(s inventory.Service) *statement.Outside {
	if s.Outside == nil {
		return nil
	}
	return &statement.Outside{Hosts: s.Outside.Hosts, Addresses: s.Outside.Addresses, Anywhere: s.Outside.Anywhere,
		Header: s.ClientAddress == definition.ClientProxyProtocol}
}

// normal makes an instance comparable: JSON drops empty lists.
func normal(b statement.Instance) statement.Instance {
	if len(b.Tags) == 0 {
		b.Tags = nil
	}
	if len(b.Meta) == 0 {
		b.Meta = nil
	}
	return b
}

func (p *Publisher) sign(body statement.Instance, withdraw bool) error {
	err := p.Signer.SignInstance(body, withdraw)
	if err != nil {
		p.Log.Error("instance not published", "service", body.Service, "id", body.ID, "err", err)
		return err
	}
	if p.signed == nil {
		p.signed = map[string][]time.Time{}
	}
	if withdraw {
		delete(p.signed, body.ID)
		return nil
	}
	last := append(p.signed[body.ID], time.Now())
	p.signed[body.ID] = last[max(0, len(last)-rate):]
	return nil
}
