// SPDX-License-Identifier: Apache-2.0

package definition

import (
	"net/netip"

	"tacit/identity"
)

// connect reads all three ways in which Consul lets a service join its mesh.
func (d *draft) connect(f field) {
	const path = "service.connect"
	d.r.object(f, path, keys{
		"native":          func(f field) { d.r.want(f, join(path, "native"), kindBool) },
		"sidecar_service": d.sidecar,
		"proxy":           d.managedProxy,
	})
}

func (d *draft) sidecar(f field) {
	const path, none = "service.connect.sidecar_service", "no sidecar runs"
	known := keys{
		"proxy":                     func(f field) { d.sidecarProxy(f, join(path, "proxy")) },
		"disable_default_tcp_check": skip,
	}
	for _, key := range []string{"token", "enable_tag_override", "check", "checks", "port", "name", "address", "tags", "meta", "weights", "tagged_addresses", "locality"} {
		known[key] = d.ignore(join(path, key), none)
	}
	d.r.object(f, path, known)
}

func (d *draft) sidecarProxy(f field, path string) {
	d.r.object(f, path, keys{
		"upstreams":                 func(f field) { d.upstreams(f, join(path, "upstreams")) },
		"config":                    func(f field) { d.proxyConfig(f, join(path, "config")) },
		"mode":                      skip,
		"transparent_proxy":         skip,
		"local_service_address":     d.ignore(join(path, "local_service_address"), "the program is found where it listens"),
		"local_service_port":        d.servicePort(path),
		"local_service_socket_path": d.refuse(join(path, "local_service_socket_path"), "services on unix sockets aren't carried; give a port"),
		"mesh_gateway":              d.ignore(join(path, "mesh_gateway"), "nodes reach each other directly"),
		"expose":                    d.ignore(join(path, "expose"), "nothing is reachable around the mesh; use mode = \"permissive\" where it must be"),
		"access_logs":               d.ignore(join(path, "access_logs"), "see tacit flows"),
		"envoy_extensions":          d.ignore(join(path, "envoy_extensions"), "there is no Envoy"),
	})
}

func (d *draft) servicePort(path string) func(field) {
	return func(f field) {
		if n := d.r.number(f, join(path, "local_service_port"), 0, 65535); n != 0 {
			d.localPort = f
		}
	}
}

// managedProxy is the form of 2018, which Consul 1.6 removed.
func (d *draft) managedProxy(f field) {
	const path = "service.connect.proxy"
	d.r.object(f, path, keys{
		"upstreams": func(f field) { d.upstreams(f, join(path, "upstreams")) },
		"config":    func(f field) { d.proxyConfig(f, join(path, "config")) },
		"exec_mode": d.ignore(join(path, "exec_mode"), "no proxy is started"),
		"command":   d.ignore(join(path, "command"), "no proxy is started"),
	})
}

// proxyConfig has no schema in Consul. Only its upstreams are used here.
func (d *draft) proxyConfig(f field, path string) {
	v, ok := d.r.single(f, path)
	if !ok {
		return
	}
	for _, f := range v.fields {
		if f.key == "upstreams" {
			d.upstreams(f, join(path, "upstreams"))
		} else {
			d.note(f, "%s: settings of a proxy that doesn't run", join(path, f.key))
		}
	}
}

func (d *draft) upstreams(f field, path string) {
	d.r.each(f, func(f field) { d.upstream(f, path) })
}

func (d *draft) upstream(f field, path string) {
	r := d.r
	bind, port := netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(0)
	var u Upstream
	before := len(r.problems)
	r.object(f, path, keys{
		"destination_name": func(f field) { u.Destination = d.destination(f, join(path, "destination_name")) },
		"local_bind_address": func(f field) {
			bind = d.bindAddress(f, join(path, "local_bind_address"))
		},
		"local_bind_port": func(f field) { port = uint16(r.number(f, join(path, "local_bind_port"), 1, 65535)) },
		"destination_type": func(f field) {
			if t := r.string(f, join(path, "destination_type")); t != "service" && f.kind == kindText {
				r.fail(f.at, "%s: %.40q isn't supported, only service; name the service itself", join(path, "destination_type"), t)
			}
		},
		"local_bind_socket_path": d.refuse(join(path, "local_bind_socket_path"), "upstreams on unix sockets aren't supported; use local_bind_port"),
		"local_bind_socket_mode": skip,
		"prepared_query":         d.refuse(join(path, "prepared_query"), "prepared queries aren't supported; name the service itself"),
		"datacenter":             d.datacenter(join(path, "datacenter")),
		"destination_peer":       d.datacenter(join(path, "destination_peer")),
		"destination_namespace":  d.defaultOnly(join(path, "destination_namespace")),
		"destination_partition":  d.defaultOnly(join(path, "destination_partition")),
		"connect_timeout_ms":     skip,
		"config":                 d.ignore(join(path, "config"), "settings of a proxy that doesn't run"),
		"mesh_gateway":           d.ignore(join(path, "mesh_gateway"), "nodes reach each other directly"),
	})
	if len(r.problems) > before {
		return
	}
	if u.Destination == "" || port == 0 {
		r.fail(f.at, "%s: destination_name and local_bind_port must be given", path)
		return
	}
	u.Bind = netip.AddrPortFrom(bind, port)
	d.Upstreams = append(d.Upstreams, u)
}

func (d *draft) destination(f field, path string) identity.Name {
	if !d.r.want(f, path, kindText) {
		return ""
	}
	name, err := identity.ParseName(f.text)
	d.r.check(f, path, err)
	return name
}

func (d *draft) bindAddress(f field, path string) netip.Addr {
	if !d.r.want(f, path, kindText) {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(f.text)
	if err != nil {
		d.r.fail(f.at, "%s: %.60q: must be an IP address", path, f.text)
		return a
	}
	d.r.check(f, path, checkBind(netip.AddrPortFrom(a.Unmap(), 1)))
	return a.Unmap()
}

func (d *draft) datacenter(path string) func(field) {
	return func(f field) {
		if s := d.r.string(f, path); s != "" {
			d.r.fail(f.at, "%s: %.40q: other data centres aren't reached; leave it out", path, s)
		}
	}
}
