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

// Address is where an instance is reached.
func Address(i api.Instance) string {
	if i.Port == 0 {
		return "calls only"
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

// Mode says whether plain connections are let in.
func Mode(i api.Instance) string {
	if i.Permissive {
		return "permissive"
	}
	return "strict"
}

// Ports lists the distinct ports of a service.
func Ports(s api.Service) string {
	var numbers []uint16
	for _, i := range s.Instances {
		if i.Port != 0 {
			numbers = append(numbers, i.Port)
		}
	}
	slices.Sort(numbers)
	var out []string
	for _, n := range slices.Compact(numbers) {
		out = append(out, fmt.Sprint(n))
	}
	return text.OrDash(text.List(out))
}

// Healthy is "1 of 2".
func Healthy(s api.Service) string {
	n := 0
	for _, i := range s.Instances {
		if i.Healthy {
			n++
		}
	}
	return fmt.Sprintf("%d of %d", n, len(s.Instances))
}

// Nodes lists the nodes with an instance.
func Nodes(s api.Service) string {
	var out []api.Name
	for _, i := range s.Instances {
		if !slices.Contains(out, i.Node) {
			out = append(out, i.Node)
		}
	}
	return text.OrDash(text.List(out))
}
