// SPDX-License-Identifier: Apache-2.0

// Package show says in words what the daemon knows of services and of the rules for
// their connections. It must not ask the daemon.
package show

import (
	"fmt"
	"slices"

	"tacit/cmd/tacit/text"
	"tacit/node/api"
)

// Address is where others reach an instance, or where an ingress leads.
func Address(i api.Instance) string {
	switch {
	case i.Ingress != nil:
		return i.Ingress.String()
	case i.Outside != nil:
		return text.List(slices.Concat(i.Outside.Hosts, i.Outside.Addresses))
	case i.Port == 0:
		return "calls only"
	case i.Place != "":
		return fmt.Sprintf("%s:%d", i.Place, i.Port)
	}
	return fmt.Sprintf("%s:%d", i.Address, i.Port)
}

// Health is yes, or why not.
func Health(i api.Instance) string {
	if i.Down != "" {
		return "no: " + i.Down
	}
	return text.YesNo(i.Healthy)
}

// Mode says which connections the instance's port accepts.
func Mode(i api.Instance) string {
	switch {
	case i.Ingress != nil:
		return "plain"
	case i.Outside != nil && i.Outside.Anywhere:
		return "outside, any"
	case i.Outside != nil:
		return "outside"
	case i.Permissive:
		return "permissive"
	}
	return "strict"
}

// Ports lists the distinct ports of a service, or where an ingress listens.
func Ports(s api.Service) string {
	var numbers []uint16
	var out []string
	for _, i := range s.Instances {
		if i.Port != 0 {
			numbers = append(numbers, i.Port)
		}
		if i.Ingress != nil && !slices.Contains(out, i.Ingress.Listen) {
			out = append(out, i.Ingress.Listen)
		}
	}
	slices.Sort(numbers)
	for _, n := range slices.Compact(numbers) {
		out = append(out, fmt.Sprint(n))
	}
	return text.OrDash(text.List(out))
}

// Healthy counts the healthy instances.
func Healthy(s api.Service) string {
	n := 0
	for _, i := range s.Instances {
		if i.Healthy {
			n++
		}
	}
	return fmt.Sprintf("%d of %d", n, len(s.Instances))
}

// Nodes lists those that run the service.
func Nodes(s api.Service) string {
	var out []string
	for _, i := range s.Instances {
		at := string(i.Node)
		if i.Place != "" {
			at += " (" + i.Place + ")"
		}
		if !slices.Contains(out, at) {
			out = append(out, at)
		}
	}
	return text.OrDash(text.List(out))
}
