// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"log/slog"
	"reflect"

	"tacit/identity"
	"tacit/node/health"
	"tacit/node/inventory"
	"tacit/policy/ledger"
)

// Signer signs on behalf of this node.
type Signer interface {
	// GrantOwn is nil when this node may run the service; a node with an
	// operator key grants itself what root has defined on it.
	GrantOwn(service identity.Name) error
	// SignInstance publishes or, with withdraw, takes back an instance.
	SignInstance(body ledger.InstanceBody, withdraw bool) error
}

// Publisher keeps the signed instances equal to those that are defined here.
type Publisher struct {
	Self    identity.Name
	Records Records
	Signer  Signer
	Health  Health
	Log     *slog.Logger
}

// Publish signs the instances of a view that are new or changed, and withdraws
// those that are gone. It reports whether every signature was made and kept; a
// missing grant comes as a record and needs no other try.
func (p *Publisher) Publish(v *inventory.View) (ok bool) {
	want, grants, signed := map[string]ledger.InstanceBody{}, map[string]error{}, map[string]error{}
	for _, s := range v.Services {
		if err := p.Signer.GrantOwn(s.Name); err != nil {
			grants[string(s.Name)] = err
			continue
		}
		want[s.ID] = p.body(s)
	}
	for _, old := range p.Records.Published(p.Self) {
		body, keep := want[old.ID]
		if keep && reflect.DeepEqual(normal(body), normal(old)) {
			delete(want, old.ID)
		} else if !keep {
			signed[old.ID] = p.sign(old, true)
		}
	}
	for _, body := range want {
		signed[body.ID] = p.sign(body, false)
	}
	p.Health.Replace(health.Grant, grants)
	p.Health.Replace(health.Publish, signed)
	for _, err := range signed {
		if err != nil {
			return false
		}
	}
	return true
}

func (p *Publisher) body(s inventory.Service) ledger.InstanceBody {
	return ledger.InstanceBody{Node: p.Self, Service: s.Name, ID: s.ID, Port: s.Port, Address: s.Address,
		Tags: s.Tags, Meta: s.Meta, Weight: s.Weight, Permissive: s.Permissive}
}

// normal makes an instance comparable: JSON drops empty lists.
func normal(b ledger.InstanceBody) ledger.InstanceBody {
	if len(b.Tags) == 0 {
		b.Tags = nil
	}
	if len(b.Meta) == 0 {
		b.Meta = nil
	}
	return b
}

func (p *Publisher) sign(body ledger.InstanceBody, withdraw bool) error {
	err := p.Signer.SignInstance(body, withdraw)
	if err != nil {
		p.Log.Error("instance not published", "service", body.Service, "id", body.ID, "err", err)
	}
	return err
}
