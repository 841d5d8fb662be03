// SPDX-License-Identifier: Apache-2.0

package entries

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"tacit/node/api"
	"tacit/node/definition"
	"tacit/policy"
)

// foreign are the kinds of Consul's config entries that have no meaning here, with
// the reason.
func foreign() map[string]string {
	const gateways = "tacit has no gateways: every node carries connections itself"
	const http = "tacit doesn't read HTTP requests: it decides about connections"
	return map[string]string{
		"proxy-defaults":              "no proxies run that could be configured",
		"mesh":                        "its settings are flags of tacitd (tacitd --help)",
		"service-router":              http,
		"http-route":                  http,
		"jwt-provider":                http,
		"tcp-route":                   gateways,
		"ingress-gateway":             "define an ingress on a node: ingress { name, port, service } in its folder --services-dir",
		"api-gateway":                 gateways,
		"bound-api-gateway":           gateways,
		"terminating-gateway":         gateways,
		"inline-certificate":          gateways,
		"file-system-certificate":     gateways,
		"exported-services":           "other clusters aren't reached",
		"sameness-group":              "other clusters aren't reached",
		"control-plane-request-limit": "there are no servers to protect",
		"rate-limit-ip":               "there are no servers to protect",
	}
}

// entry reads one config entry of Consul.
func (f *file) entry(block definition.Item) {
	kind, ok := field(block, "kind")
	if !ok {
		f.fail(block, "the config entry has no Kind")
		return
	}
	text := f.text(kind, "Kind")
	if kind.Kind != definition.KindText {
		return
	}
	switch text {
	case "service-intentions":
		f.serviceIntentions(block)
		return
	case "service-resolver":
		f.serviceResolver(block)
		return
	case "service-splitter":
		f.serviceSplitter(block)
		return
	case "service-defaults":
		f.only(block, text, map[string]string{"protocol": "tcp", "mutualtlsmode": "strict"}, "connections are carried as TCP, and no proxy runs that could be configured")
		return
	}
	if why, known := foreign()[text]; known {
		f.unsupported(kind, "Kind %s: %s", text, why)
		return
	}
	known := append(slices.Collect(maps.Keys(foreign())), "service-intentions", "service-resolver", "service-splitter", "service-defaults")
	slices.Sort(known)
	f.fail(kind, "Kind %.40q: unknown%s", text, api.Nearest(text, known))
}

// only accepts an entry in which nothing but its name and these values are set:
// they are what happens anyway.
func (f *file) only(block definition.Item, kind string, values map[string]string, why string) {
	for _, item := range block.Items {
		key := keyName(item.Key)
		switch want, known := values[key]; {
		case key == "kind" || key == "name" || key == "meta" || item.Kind == definition.KindNull:
		case key == "namespace" || key == "partition":
			f.defaultOnly(item)
		case known && (item.Text == "" || strings.EqualFold(item.Text, want)):
		default:
			f.unsupported(item, "%s.%s: %s", kind, item.Key, why)
		}
	}
}

// serviceIntentions reads Kind = "service-intentions".
func (f *file) serviceIntentions(block definition.Item) {
	var destination api.Name
	var sources definition.Item
	skip := func(definition.Item) {}
	f.fields(block, "service-intentions", []string{"Kind", "Name", "Sources", "Meta"}, map[string]func(definition.Item){
		"kind": skip, "meta": skip, "createindex": skip, "modifyindex": skip, "hash": skip,
		"name":      func(i definition.Item) { destination = f.endpoint(i, "Name", policy.ParseDestination) },
		"namespace": f.defaultOnly, "partition": f.defaultOnly,
		"sources": func(i definition.Item) { sources = i },
		"jwt":     func(i definition.Item) { f.fail(i, "JWT: tokens in requests aren't checked here; remove it") },
	})
	switch {
	case destination == "":
		if _, given := field(block, "name"); !given {
			f.fail(block, "service-intentions has no Name, which is the destination")
		}
	case sources.Kind == "":
		f.fail(block, "service-intentions of %s has no Sources", destination)
	default:
		f.each(sources, "Sources", func(source definition.Item) { f.source(source, destination) })
	}
}

// source reads one element of Sources. Precedence follows from the names, and
// Type can only be consul.
func (f *file) source(block definition.Item, destination api.Name) {
	w := api.Wanted{Destination: destination, From: fmt.Sprintf("%s:%d", f.path, block.Line)}
	before := len(f.Errors)
	skip := func(definition.Item) {}
	f.fields(block, "Sources", []string{"Name", "Action", "Description", "Precedence", "Type"}, map[string]func(definition.Item){
		"name":        func(i definition.Item) { w.Source = f.endpoint(i, "Name", policy.ParseSource) },
		"action":      func(i definition.Item) { w.Action = f.action(i) },
		"description": func(i definition.Item) { w.Description = f.description(i) },
		"precedence":  skip, "legacyid": skip, "legacymeta": skip, "legacycreatetime": skip, "legacyupdatetime": skip,
		"type": func(i definition.Item) {
			if t := f.text(i, "Type"); t != "consul" && t != "" {
				f.fail(i, "Type: %.40q: must be consul", t)
			}
		},
		"permissions": func(i definition.Item) {
			f.fail(i, "Permissions: HTTP requests aren't read here, so they can't be enforced; write Action = \"allow\" or \"deny\" for the whole connection")
		},
		"namespace": f.defaultOnly, "partition": f.defaultOnly,
		"peer":          f.elsewhere,
		"samenessgroup": f.elsewhere,
	})
	if len(f.Errors) == before {
		f.add(block, w)
	}
}

func (f *file) elsewhere(i definition.Item) {
	if i.Text != "" {
		f.fail(i, "%s: %.40q: services of other clusters can't call here; remove this source", i.Key, i.Text)
	}
}

// defaultOnly accepts "" and "default", the only values in Consul's community edition.
func (f *file) defaultOnly(i definition.Item) {
	if s := f.text(i, i.Key); s != "" && s != "default" {
		f.fail(i, "%s: %.40q: there is only the default one; leave it out", i.Key, s)
	}
}
