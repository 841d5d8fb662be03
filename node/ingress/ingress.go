// SPDX-License-Identifier: Apache-2.0

// Package ingress opens the ports at which this node takes plain connections for
// services, while the policy lets them in and a service can take them. It must not
// copy bytes, nor decide about a connection: the proxy does.
package ingress

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"tacit/identity"
	"tacit/node/definition"
	"tacit/node/health"
	"tacit/policy"
	"tacit/redirect/listen"
	"tacit/tproxy"
	"tacit/tproxy/accept"
)

// retryInterval is how long a port that can't be opened is left alone.
const retryInterval = time.Second

// Catalog is what the mesh knows of services.
type Catalog interface {
	DefaultPort(service identity.Name) uint16
	// Check says why no connection to a port of a service can be carried. allowed
	// says whether the caller may call a service that stands in for it.
	Check(service identity.Name, port uint16, allowed func(identity.Name) bool) error
}

// Health learns which ports can't be opened.
type Health interface {
	Set(f health.Family, thing string, err error) (news bool)
}

// Config is what a Manager works with. Functions must not block.
type Config struct {
	Policy  func() *policy.Table // in force, or about to be
	Catalog func() Catalog
	Owner   func(port uint16) string // the instance of a service here that has the port; "": none
	Serve   func(context.Context, accept.Listener, tproxy.Entry) error
	// Inherited are listeners of the daemon whose work this one takes over.
	Inherited *listen.Inherited
	IPv6      bool   // this host's kernel has it
	Changed   func() // Closed has another answer now
	Health    Health
	Log       *slog.Logger
}

// Manager is safe for concurrent use.
type Manager struct {
	conf Config
	ctx  context.Context
	end  context.CancelFunc

	mu    sync.Mutex // guards the fields below, and what a door says it guards
	doors map[identity.Name]*door
	retry *time.Timer
}

// New returns a manager without ingresses.
func New(c Config) *Manager {
	m := &Manager{conf: c, doors: map[identity.Name]*door{}}
	m.ctx, m.end = context.WithCancel(context.Background())
	m.retry = time.AfterFunc(time.Hour, m.again)
	m.retry.Stop()
	return m
}

// Set makes the ingresses those of defs, all of which this node may run, and opens
// and closes their ports as policy and catalog want it now.
func (m *Manager) Set(defs []definition.Definition) {
	wanted := map[identity.Name]definition.Ingress{}
	for _, d := range defs {
		if d.Ingress != nil {
			wanted[d.Name] = *d.Ingress
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, d := range m.doors {
		if def, ok := wanted[name]; !ok || !d.leadsTo(def) {
			m.remove(d)
		}
	}
	for name, def := range wanted {
		if m.doors[name] == nil {
			m.doors[name] = newDoor(name, def, m.conf.Catalog)
		}
		m.doors[name].redefine(def)
	}
	m.settle()
}

// remove closes a port for good; the connections that came in there have to end.
func (m *Manager) remove(d *door) {
	d.gone.Store(true)
	m.conf.Health.Set(health.Ingress, string(d.name.Label()), nil)
	if d.closed() {
		m.conf.Log.Info("ingress closed", "ingress", d.name, "err", "it isn't defined any more, leads elsewhere, or isn't granted")
	}
	delete(m.doors, d.name)
}

// Closed is why an ingress takes no connections; "": it does.
func (m *Manager) Closed(name identity.Name) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if d := m.doors[name]; d != nil {
		return d.why
	}
	return string(policy.ReasonListener)
}

// Close closes all ports for good. Connections that came in go on.
func (m *Manager) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.end()
	m.retry.Stop()
	for _, d := range m.doors {
		d.closed()
	}
}

func (m *Manager) again() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.settle()
}

// settle opens and closes ports. Of two for one port, the first by name gets it.
// The caller holds mu.
func (m *Manager) settle() {
	if m.ctx.Err() != nil {
		return
	}
	changed, failed := false, false
	for _, name := range slices.Sorted(maps.Keys(m.doors)) {
		d := m.doors[name]
		err := m.refused(d)
		if err == nil {
			err = m.open(d)
		}
		if err != nil {
			d.closed()
		}
		changed, failed = m.note(d, err) || changed, isProblem(err) || failed
	}
	if failed {
		m.retry.Reset(retryInterval)
	}
	if changed {
		m.conf.Changed()
	}
}

// refused is why a port must be closed.
func (m *Manager) refused(d *door) error {
	if owner := m.conf.Owner(d.def.Port); owner != "" {
		return owned(d.def.Port, owner)
	}
	table := m.conf.Policy()
	if err := table.Decide(d.name, d.service).Err(); err != nil {
		return err
	}
	err := m.conf.Catalog().Check(d.service, d.port(), func(standby identity.Name) bool { return table.Decide(d.name, standby).Allowed })
	if d.servicePort == 0 && policy.ReasonOf(err, "") == policy.ReasonPort {
		return policy.Refuse(policy.ReasonPort, "%s has several ports; name one of them as service_port", d.service)
	}
	return err
}

// note records whether a port is open, and reports whether that is news.
func (m *Manager) note(d *door, err error) (news bool) {
	problem := err
	if !isProblem(err) {
		problem = nil
	}
	m.conf.Health.Set(health.Ingress, string(d.name.Label()), problem)
	why := ""
	if err != nil {
		why = string(policy.ReasonOf(err, policy.ReasonListener))
	}
	if why == d.why && d.noted {
		return false
	}
	d.why, d.noted = why, true
	if err == nil {
		m.conf.Log.Info("ingress open", "ingress", d.name, "listen", d.def.Listen(), "service", d.service)
	} else {
		m.conf.Log.Info("ingress closed", "ingress", d.name, "listen", d.def.Listen(), "service", d.service, "reason", why, "err", err)
	}
	return true
}

// isProblem says whether somebody has to do something on this node about a port
// that is closed.
func isProblem(err error) bool {
	mesh := []policy.Reason{policy.ReasonIntention, policy.ReasonDefault, policy.ReasonInstance}
	return err != nil && !slices.Contains(mesh, policy.ReasonOf(err, ""))
}

// open opens a port that isn't open where its definition says.
func (m *Manager) open(d *door) error {
	at := d.at(m.conf.IPv6)
	if d.ln != nil && d.where == at {
		return nil
	}
	d.closed()
	ln, err := m.listen(d, at)
	if err != nil {
		return inUse(d.def.Port, err)
	}
	ctx, cancel := context.WithCancel(m.ctx)
	d.ln, d.where, d.cancel = ln, at, cancel
	go func() {
		err := m.conf.Serve(ctx, ln, d)
		if ctx.Err() == nil {
			m.lost(d, ln, err)
		}
	}()
	return nil
}

// lost is told that a port isn't served any more although it should be.
func (m *Manager) lost(d *door, ln *listen.Reopening, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.doors[d.name] != d || d.ln != ln || m.ctx.Err() != nil {
		return
	}
	d.closed()
	if m.note(d, cmp.Or(err, errEnded)) {
		m.conf.Changed()
	}
	m.retry.Reset(retryInterval)
}

var errEnded = errors.New("its listener ended")
