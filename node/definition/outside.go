// SPDX-License-Identifier: Apache-2.0

package definition

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"tacit/identity"
	"tacit/node/definition/external"
)

// maxOutside is how many hosts, and how many addresses, an outside service has.
const maxOutside = 32

// The values of reach.
const (
	reachHere = "here"
	reachAny  = "any"
)

func (d *draft) outside(f field) {
	const path = "service.outside"
	d.Outside, d.outsideAt = &external.Place{}, f
	before := len(d.r.problems)
	d.r.object(f, path, keys{
		"hosts":     d.listed(&d.Outside.Hosts, path, identity.ParseHost),
		"addresses": d.listed(&d.Outside.Addresses, path, external.Address),
		"reach": func(f field) {
			reach := d.r.string(f, join(path, f.key))
			d.r.check(f, join(path, f.key), checkWord(reach, []string{reachHere, reachAny}))
			d.Outside.Anywhere = reach == reachAny
		},
	})
	if len(d.r.problems) > before {
		d.Outside = nil // what would be said about the rest of it follows from these
	}
}

// finishOutside checks what depends on the whole service, and reports it where the
// key stands that contradicts outside.
func (d *draft) finishOutside() {
	if d.Outside == nil {
		return
	}
	f := d.outsideAt
	key, err := d.checkOutside()
	if v, ok := d.r.single(d.at, "service"); ok {
		if i := slices.IndexFunc(v.fields, func(o field) bool { return o.key == key }); i >= 0 {
			f = v.fields[i]
		}
	}
	d.r.check(f, join("service", key), err)
}

// listed reads a list of texts, each as parse stores it.
func (d *draft) listed(into *[]string, path string, parse func(string) (string, error)) func(field) {
	return func(f field) {
		for _, v := range d.r.elements(f, join(path, f.key)) {
			one := field{key: f.key, at: v.at, value: v}
			text, err := parse(d.r.string(one, join(path, f.key)))
			if v.kind == kindText {
				d.r.check(one, join(path, f.key), err)
			}
			*into = append(*into, text)
		}
	}
}

// checkOutside completes an outside service, and says which key contradicts it.
func (d *Definition) checkOutside() (key string, err error) {
	o := d.Outside
	if o == nil {
		return "", nil
	}
	for i, addr := range o.Addresses {
		if one, err := netip.ParseAddr(addr); err == nil {
			o.Addresses[i] = netip.AddrPortFrom(one, d.Port).String()
		}
	}
	const none = "has no meaning with outside: no program of this node is the service"
	switch {
	case len(o.Hosts)+len(o.Addresses) == 0:
		return "outside", errors.New("give hosts or addresses")
	case len(o.Hosts) > maxOutside || len(o.Addresses) > maxOutside:
		return "outside", fmt.Errorf("%d hosts and %d addresses: at most %d of each", len(o.Hosts), len(o.Addresses), maxOutside)
	case d.Port == 0:
		return "port", errors.New("missing: an outside service has the port by which it is called")
	case d.Workload != Workload{}:
		return "workload", errors.New(none)
	case d.Address != "":
		return "address", errors.New(none + "; write outside.addresses")
	case d.Permissive:
		return "mode", errors.New("permissive " + none)
	case len(d.Upstreams) > 0:
		return "connect", errors.New("upstreams: " + none)
	case d.ClientAddress == ClientLoopback || d.ClientAddress == ClientOwn:
		return "client_address", errors.New("an outside service sees this node's own address: leave it out, or use proxy_protocol")
	}
	return "", nil
}
