// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"slices"
	"strings"

	"tacit/identity"
)

// reserved are labels of Consul's names, which a datacenter can't be called.
var reserved = [...]string{"service", "virtual", "connect", "node", "addr", "dc", "ingress", "query"}

func (n Naming) check() error {
	name, err := identity.ParseName(n.Datacenter)
	if err != nil && n.Datacenter != "" {
		return fmt.Errorf("--datacenter: %w", err)
	}
	if slices.Contains(reserved[:], string(name)) {
		return fmt.Errorf("--datacenter %s: has a meaning of its own in Consul's names; give another name, such as dc1", name)
	}
	for _, suffix := range n.Search {
		if err := checkSuffix(suffix); err != nil {
			return fmt.Errorf("--search %q: %w", suffix, err)
		}
	}
	return nil
}

func checkSuffix(suffix string) error {
	for label := range strings.SplitSeq(strings.TrimSuffix(suffix, "."), ".") {
		if _, err := identity.ParseName(label); err != nil {
			return fmt.Errorf("not a DNS domain such as corp.example: %w", err)
		}
	}
	return nil
}
