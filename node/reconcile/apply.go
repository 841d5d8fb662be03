// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"tacit/identity"
	"tacit/node/catalog"
	"tacit/node/health"
	"tacit/node/inventory"
	"tacit/policy"
	"tacit/policy/kernel"
	"tacit/redirect/netns"
)

// bring puts a view in force here, then publishes it, and puts in force what was
// published: a program that has ended isn't called while the disk is written.
func (l *Loop) bring(view *inventory.View) (ok bool) {
	p := l.conf.Publisher
	p.Judge(view)
	ok = l.apply(view)
	published, wait := p.Publish(view)
	if wait > 0 {
		l.later.Reset(wait)
	}
	if l.conf.Records.Digest() != l.judged {
		ok = l.apply(view)
	}
	return ok && published
}

// apply writes the maps. The caller holds applying.
func (l *Loop) apply(view *inventory.View) (ok bool) {
	digest := l.conf.Records.Digest()
	l.follow(digest)
	cat := catalog.New(l.conf.Settings.Name, shared{l.conf.Publisher.Newest(), *l.shares.Load()}, func(name identity.Name) bool { return l.up[name] })
	state, found := Compile(l.input(view, cat))
	l.conf.Enrol(&state)
	l.guests.Store(&state.Workloads.Interfaces)
	answering := l.conf.Answer(view.Answers())
	l.withdraw()
	changed, err := l.conf.Enforcer.Apply(state)
	l.tellNames(cat.Claims().Hosts)
	l.catalog.Store(cat) // after the maps: the packets of a name that is answered must not leave the host any more
	l.report(found, state, err)
	if changed || digest != l.swept { // a revocation or a withdrawn grant need not change a map
		l.sweepDue.Store(true)
	}
	l.swept = digest
	l.conf.Want(l.granted(view))
	l.announce(cat)
	return err == nil && answering == nil
}

// tellNames logs which real names begin to mean a service outside of the mesh, and
// which no longer do.
func (l *Loop) tellNames(now map[string]identity.Name) {
	was := l.Catalog().Claims().Hosts
	for host, service := range now {
		if was[host] != service {
			l.conf.Log.Info("a real name means a service of the mesh for workloads from now on", "name", host, "service", service)
		}
	}
	for host, service := range was {
		if now[host] == "" {
			l.conf.Log.Info("a real name no longer means a service of the mesh", "name", host, "service", service)
		}
	}
}

// follow takes over what the records and the members' liveness say.
func (l *Loop) follow(digest [32]byte) {
	up := l.conf.Alive()
	if digest != l.judged || !maps.Equal(up, l.up) {
		l.conf.Peers.Found()
	}
	l.absent.note(up, time.Now())
	l.up = up
	if digest != l.judged || l.shares.Load() == nil {
		l.divide()
	}
	if behind := l.conf.Behind(); digest != l.judged || behind != l.behind {
		l.policy = l.conf.Records.PolicyDigest()                                                       // first: it may be older than the rules, and never newer
		if rules := l.conf.Records.Intentions(); !slices.Equal(rules, l.rules) || behind != l.behind { // most records are no intentions
			l.rules, l.behind = rules, behind
			l.table.Store(l.tableOf(rules))
		}
		l.judged = digest
	}
}

// tableOf allows nothing while rules may be missing.
func (l *Loop) tableOf(rules []policy.Intention) *policy.Table {
	if l.behind {
		return policy.NewTable(policy.Deny, nil)
	}
	return policy.NewTable(l.conf.Settings.Action, rules)
}

func (l *Loop) input(view *inventory.View, cat *catalog.Catalog) Input {
	s := l.conf.Settings
	low, high := inventory.EphemeralPorts()
	return Input{View: view, Table: l.table.Load(), Catalog: cat, Granted: l.mayRun, Proven: l.conf.Peers.Of, Foreign: l.conf.Foreign,
		Addresses: l.conf.Addresses(), Names: l.conf.Names, Exclude: s.Exclude, Ephemeral: Ports{low, high}}
}

func (l *Loop) mayRun(service identity.Name) bool {
	return l.conf.Records.Granted(l.conf.Settings.Name, service)
}

// granted are the services defined here that this node may run.
func (l *Loop) granted(view *inventory.View) []identity.Name {
	var out []identity.Name
	for _, name := range view.Names() {
		if l.mayRun(name) {
			out = append(out, name)
		}
	}
	return out
}

func (l *Loop) report(found Findings, state kernel.State, err error) {
	for family, problems := range found {
		l.conf.Health.Replace(family, problems)
	}
	if news := l.conf.Health.Set(health.Maps, "", err); news && err != nil {
		l.conf.Log.Error("the kernel's maps are not what the records say", "err", err)
	}
	l.conf.Health.Set(health.Remotes, "", l.conf.Remember(state.Remotes))
}

// sweep judges live connections again: streams in the proxy, and same-node
// pairs in the kernel, in each network namespace with an instance.
func (l *Loop) sweep(inner []netns.Namespace) error {
	streams := l.conf.Streams()
	pairs, err := l.conf.Enforcer.Sweep(context.Background())
	for _, at := range inner {
		e := at.Do(func(func() error) error {
			cut, err := l.conf.Enforcer.Sweep(context.Background())
			pairs += cut
			return err
		})
		if !errors.Is(e, netns.ErrGone) {
			err = errors.Join(err, e)
		}
	}
	l.conf.Health.Set(health.Sweep, "", err)
	if streams+pairs > 0 {
		l.conf.Log.Info("connections cut by a change", "streams", streams, "same_node", pairs, "revision", l.conf.Enforcer.Revision().Number)
	}
	return err
}
