// SPDX-License-Identifier: Apache-2.0

package definition

import (
	"fmt"

	"tacit/identity"
)

// top reads the whole file: service {…} and ingress {…}, repeated or not, and
// services [...].
func (r *reader) top(v value) []Definition {
	var out []Definition
	service := func(f field) {
		r.each(f, func(f field) { out = append(out, r.service(f)) })
	}
	ingress := func(f field) {
		r.each(f, func(f field) { out = append(out, r.ingress(f)) })
	}
	inside := func(f field) { r.fail(f.at, "%s: write it inside its service { … }", f.key) }
	r.object(field{at: v.at, value: v}, "", keys{"service": service, "services": service, "ingress": ingress, "check": inside, "checks": inside})
	return out
}

// draft is a definition whose fields are being read, in any order.
type draft struct {
	Definition
	r         *reader
	named     bool
	at        field // of the service itself
	id        field
	localPort field // of a sidecar's local_service_port
	outsideAt field
	later     []func() // what can be checked only when all fields are read
}

func (r *reader) service(f field) Definition {
	d := &draft{r: r, at: f, Definition: Definition{Weight: 1}}
	d.Source = r.source(f)
	d.remember("", f.value)
	r.object(f, "service", keys{
		"name": d.name, "id": func(f field) { d.id, d.ID = f, r.string(f, "service.id") },
		"port":    func(f field) { d.Port = uint16(r.number(f, "service.port", 0, 65535)) },
		"address": d.address, "tags": d.tags, "meta": d.meta, "weights": d.weights,
		"kind": d.kind, "mode": d.mode, "client_address": d.clientAddress, "balance": d.oneOf(&d.Balance, "balance", balances), "retry": d.oneOf(&d.Retry, "retry", retries), "workload": d.workload, "outside": d.outside, "connect": d.connect,
		"check": d.checks, "checks": d.checks,
		"token":               d.ignore("service.token", "there are no ACL tokens; a node's grants say what it may run"),
		"enable_tag_override": d.ignore("service.enable_tag_override", "tags are changed in this file only"),
		"tagged_addresses":    d.ignore("service.tagged_addresses", "every node finds its own virtual address"),
		"locality":            d.ignore("service.locality", "zones belong to nodes: start tacitd with --zone"),
		"socket_path":         d.refuse("service.socket_path", "services on unix sockets aren't carried; give a port"),
		"proxy":               d.refuse("service.proxy", "only sidecars have it; write its upstreams as service.connect.sidecar_service.proxy.upstreams"),
		"namespace":           d.defaultOnly("service.namespace"), "partition": d.defaultOnly("service.partition"),
	})
	d.finish()
	return d.Definition
}

func (d *draft) finish() {
	if !d.named {
		d.r.fail(d.at.at, "service.name: missing")
	}
	if d.id.key == "" {
		d.id, d.ID = d.at, string(d.Name)
	}
	if d.Name != "" {
		d.r.check(d.id, "service.id", checkID(d.ID))
	}
	d.r.check(d.at, "upstreams", checkUpstreams(d.Upstreams))
	d.finishOutside()
	for _, check := range d.later {
		check()
	}
	if f := d.localPort; f.key != "" && f.text != fmt.Sprint(d.Port) {
		d.r.fail(f.at, "local_service_port %s isn't the service's port %d: tacit has no second port; set service.port to the one the program listens on", f.text, d.Port)
	}
}

func (d *draft) name(f field) {
	d.named = true
	var err error
	if text := d.r.string(f, "service.name"); f.kind == kindText {
		d.Name, err = identity.ParseName(text)
		d.r.check(f, "service.name", err)
	}
}

func (d *draft) address(f field) {
	text := d.r.string(f, "service.address")
	var err error
	d.Address, err = checkAddress(text)
	d.r.check(f, "service.address", err)
	if err == nil && text != "" && d.Address == "" {
		d.note(f, "service.address %s: other nodes reach the instance at this node's address", text)
	}
}

func (d *draft) tags(f field) {
	d.Tags = d.r.strings(f, "service.tags")
	d.r.check(f, "service.tags", checkTags(d.Tags))
}

func (d *draft) meta(f field) {
	d.Meta = d.r.table(f, "service.meta")
	d.r.check(f, "service.meta", checkMeta(d.Meta))
}

func (d *draft) weights(f field) {
	d.r.object(f, "service.weights", keys{
		"passing": func(f field) { d.Weight = int(d.r.number(f, "service.weights.passing", 1, maxWeight)) },
		"warning": d.ignore("service.weights.warning", "an instance with a warning keeps its weight"),
	})
}

func (d *draft) kind(f field) {
	switch k := d.r.string(f, "service.kind"); k {
	case "", "typical":
	case "connect-proxy":
		d.r.fail(f.at, "service.kind: connect-proxy: tacit needs no sidecars; remove this service and write its upstreams in the other's connect.sidecar_service.proxy.upstreams")
	default:
		d.r.fail(f.at, "service.kind: %.40q isn't supported; leave it out", k)
	}
}

func (d *draft) mode(f field) {
	switch m := d.r.string(f, "service.mode"); m {
	case "strict", "permissive":
		d.Permissive = m == "permissive"
	default:
		d.r.fail(f.at, "service.mode: %.40q: must be strict or permissive", m)
	}
}

// The values of balance and retry; docs/balancing.md explains them.
var (
	balances = []string{"least", "round_robin", "weighted", "hash"}
	retries  = []string{"unanswered", "connect", "never"}
)

// oneOf reads one of a few words.
func (d *draft) oneOf(into *string, key string, words []string) func(field) {
	return func(f field) {
		path := "service." + key
		*into = d.r.string(f, path)
		d.r.check(f, path, checkWord(*into, words))
	}
}

func (d *draft) workload(f field) {
	const path = "service.workload"
	text := func(into *string) func(field) {
		return func(f field) {
			if *into = d.r.string(f, join(path, f.key)); f.kind == kindText && *into == "" {
				d.r.fail(f.at, "%s: must not be empty", join(path, f.key))
			}
		}
	}
	w := &d.Workload
	d.r.object(f, path, keys{
		"cgroup": text(&w.Cgroup), "systemd_unit": text(&w.SystemdUnit), "netns": text(&w.NetNS), "container": text(&w.Container), "interface": text(&w.Interface),
		"uid": func(f field) {
			uid := uint32(d.r.number(f, "service.workload.uid", 0, 1<<32-2)) // 2^32-1 is no uid
			w.UID = &uid
		},
	})
	d.r.check(f, path, w.check())
}

// note names what tacit ignores, with its place.
func (d *draft) note(f field, format string, args ...any) {
	d.Ignored = append(d.Ignored, d.r.source(f)+": "+fmt.Sprintf(format, args...))
}

// ignore is for fields that tacit ignores, as it tells the operator.
func (d *draft) ignore(path, why string) func(field) {
	return func(f field) { d.note(f, "%s: %s", path, why) }
}

// refuse is for fields that tacit can't honour and must not ignore.
func (d *draft) refuse(path, why string) func(field) {
	return func(f field) { d.r.fail(f.at, "%s: %s", path, why) }
}

// defaultOnly accepts "" and "default", the only values in Consul's community
// edition.
func (d *draft) defaultOnly(path string) func(field) {
	return func(f field) {
		if s := d.r.string(f, path); s != "" && s != "default" {
			d.r.fail(f.at, "%s: %.40q: there is only the default one; leave it out", path, s)
		}
	}
}
