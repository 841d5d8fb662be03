// SPDX-License-Identifier: Apache-2.0

package definition

import (
	"fmt"
	"net/netip"

	"tacit/identity"
)

// Ingress is a port of this node at which plain connections come in for one
// service. Its definition calls only, under the name of the ingress.
type Ingress struct {
	Address        string        `json:"address,omitempty"` // an IP; "": every address of the node
	Port           uint16        `json:"port"`
	Service        identity.Name `json:"service"`
	ServicePort    uint16        `json:"service_port,omitempty"` // 0: the service's only one
	MaxConnections int           `json:"max_connections"`
	MaxPerClient   int           `json:"max_connections_per_client"`
}

// Limits of an ingress: the defaults, and the most that can be set.
const (
	defaultConnections = 1024
	defaultPerClient   = 128
	mostConnections    = 1 << 20
)

// Listen is where the ingress takes connections, for people.
func (i Ingress) Listen() string {
	if i.Address == "" {
		return fmt.Sprintf("*:%d", i.Port)
	}
	return netip.AddrPortFrom(netip.MustParseAddr(i.Address), i.Port).String()
}

// ingress reads an ingress block.
func (r *reader) ingress(f field) Definition {
	in := &Ingress{MaxConnections: defaultConnections, MaxPerClient: defaultPerClient}
	d := &draft{r: r, at: f, Definition: Definition{Ingress: in}}
	d.Source = r.source(f)
	d.remember("", f.value)
	given := map[string]bool{}
	number := func(into *int, low, high uint64) func(field) {
		return func(f field) { *into = int(r.number(f, join("ingress", f.key), low, high)) }
	}
	var port, servicePort int
	known := keys{
		"name":    func(f field) { d.Name = identity.Ingress(r.name(f, "ingress.name")) },
		"address": func(f field) { in.Address = r.listenAddress(f, "ingress.address") },
		"port":    number(&port, 1, 65535),
		"service": func(f field) { in.Service = r.name(f, "ingress.service") }, "service_port": number(&servicePort, 1, 65535),
		"max_connections": number(&in.MaxConnections, 1, mostConnections), "max_connections_per_client": number(&in.MaxPerClient, 1, mostConnections),
	}
	for key, read := range known {
		known[key] = func(f field) { given[key] = true; read(f) }
	}
	r.object(f, "ingress", known)
	for _, key := range []string{"name", "port", "service"} {
		if !given[key] {
			r.fail(f.at, "ingress.%s: missing", key)
		}
	}
	in.Port, in.ServicePort = uint16(port), uint16(servicePort)
	d.ID = string(d.Name)
	return d.Definition
}

func (r *reader) name(f field, path string) identity.Name {
	text := r.string(f, path)
	if f.kind != kindText {
		return ""
	}
	name, err := identity.ParseName(text)
	r.check(f, path, err)
	return name
}

// listenAddress reads an address at which a socket can listen; "" is every one.
func (r *reader) listenAddress(f field, path string) string {
	text := r.string(f, path)
	if text == "" {
		return ""
	}
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" || a.IsMulticast() {
		r.fail(f.at, "%s: %.60q: must be an IP address of this node; leave it out for all of them", path, text)
		return ""
	}
	return a.Unmap().String()
}
