// SPDX-License-Identifier: Apache-2.0

package definition

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"tacit/identity"
)

// maxOutside is how many hosts, and how many addresses, an outside service has.
const maxOutside = 32

// Outside says that the service is outside of the mesh, and where.
type Outside struct {
	Hosts     []string `json:"hosts,omitempty"`     // real names; programs may go on using them
	Addresses []string `json:"addresses,omitempty"` // IP:PORT; none: those of the hosts
	Anywhere  bool     `json:"anywhere,omitempty"`  // reach = "any": each node connects by itself
}

// Claims are the real names and addresses that the service stands for.
func (o *Outside) Claims() []string {
	if o == nil {
		return nil
	}
	return slices.Concat(o.Hosts, o.Addresses)
}

// The values of reach.
const (
	reachHere = "here"
	reachAny  = "any"
)

func (d *draft) outside(f field) {
	const path = "service.outside"
	d.Outside, d.outsideAt = &Outside{}, f
	before := len(d.r.problems)
	d.r.object(f, path, keys{
		"hosts":     d.listed(&d.Outside.Hosts, path, identity.ParseHost),
		"addresses": d.listed(&d.Outside.Addresses, path, outsideAddress),
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

// outsideAddress returns IP:PORT, or the IP alone where the port is the service's,
// in its stored form. Addresses that can't be another host's are refused.
func outsideAddress(s string) (string, error) {
	to, err := netip.ParseAddrPort(s)
	if err != nil {
		addr, alone := netip.ParseAddr(strings.Trim(s, "[]"))
		if alone != nil {
			return "", fmt.Errorf("%.60q: must be an IP address, or one with a port; names belong into hosts", s)
		}
		return addr.Unmap().String(), NotOutside(addr)
	}
	if to.Port() == 0 {
		return "", fmt.Errorf("%.60q: the port must be 1 to 65535", s)
	}
	return netip.AddrPortFrom(to.Addr().Unmap(), to.Port()).String(), NotOutside(to.Addr())
}

// ParseOutside reads a list of hosts and addresses.
func ParseOutside(list []string, anywhere bool) (*Outside, error) {
	out := &Outside{Anywhere: anywhere}
	for _, s := range list {
		if host, err := identity.ParseHost(s); err == nil {
			out.Hosts = append(out.Hosts, host)
			continue
		}
		addr, err := outsideAddress(s)
		if err != nil {
			return nil, err
		}
		out.Addresses = append(out.Addresses, addr)
	}
	return out, nil
}

// NotOutside says why no host outside of the mesh can have an address; nil: one can.
func NotOutside(a netip.Addr) error {
	a = a.Unmap()
	what := ""
	switch {
	case a.IsLoopback():
		what = "a loopback address"
	case a.IsUnspecified():
		what = "no address"
	case a.IsMulticast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		what = "not one host's address"
	case a.IsLinkLocalUnicast():
		what = "a link-local address, where the host's metadata service may be"
	case a.Zone() != "":
		what = "an address of one interface"
	default:
		return nil
	}
	return fmt.Errorf("%s is %s", a, what)
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
	case d.ClientAddress == ClientLoopback:
		return "client_address", errors.New("an outside service sees this node's own address: leave it out, or use proxy_protocol")
	}
	return "", nil
}

// serves says whether a check may name a host: one of the outside service's own.
func (o *Outside) serves(host string) bool {
	name, _ := identity.ParseHost(host)
	return o != nil && (slices.Contains(o.Hosts, name) || slices.ContainsFunc(o.Addresses, func(at string) bool {
		to, err := netip.ParseAddrPort(at)
		return err == nil && to.Addr().String() == host
	}))
}
