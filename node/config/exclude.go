// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"tacit/node/definition"
)

// Exclude is what this node leaves alone: connections from these users and
// cgroups, and connections to these ports and networks. The mesh never judges,
// captures or rewrites them, and never answers an excluded program's DNS
// queries. An exclusion opens nothing: the port of a strict service on this
// node stays closed to plain connections, a workload stays judged whatever
// user it runs as, and virtual addresses always belong to the mesh.
type Exclude struct {
	Ports   []uint16
	CIDRs   []netip.Prefix
	UIDs    []uint32
	Cgroups []string // below the hooked root, or absolute inside it; absolute once the Config is settled

	// At is where each list was given: file:line or a flag, by the keys ports,
	// cidrs, uids and cgroups. It serves messages only.
	At map[string]string
}

// Source is where a list was given.
func (e Exclude) Source(list string) string {
	if at := e.At[list]; at != "" {
		return at
	}
	return "exclude." + list
}

// settle refuses exclusions that can't be meant, and makes the cgroups absolute.
func (e Exclude) settle(root string, virtual ...netip.Prefix) (Exclude, error) {
	if slices.Contains(e.Ports, 0) {
		return e, fmt.Errorf("%s: port 0: must be 1 to 65535", e.Source("ports"))
	}
	if slices.Contains(e.UIDs, math.MaxUint32) {
		return e, fmt.Errorf("%s: user %d: not a valid user", e.Source("uids"), uint32(math.MaxUint32))
	}
	for _, p := range e.CIDRs {
		for _, v := range virtual {
			if p.Overlaps(v) {
				return e, fmt.Errorf("%s: %s overlaps the virtual addresses %s (--virtual-range%d), which always belong to the mesh: leave them out, or move the range",
					e.Source("cidrs"), p, v, ipVersion(v.Addr()))
			}
		}
	}
	var paths []string
	for _, given := range e.Cgroups {
		path, err := excludedCgroup(root, given)
		if err != nil {
			return e, fmt.Errorf("%s: cgroup %q: %w", e.Source("cgroups"), given, err)
		}
		paths = append(paths, path)
	}
	e.Cgroups = paths
	return e, nil
}

func ipVersion(a netip.Addr) int {
	if a.Is4() {
		return 4
	}
	return 6
}

// excludedCgroup returns the absolute path of a cgroup that may be excluded.
func excludedCgroup(root, given string) (string, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return "", err
	}
	path := filepath.Clean(given)
	if !filepath.IsAbs(given) {
		path = filepath.Join(root, given)
	}
	switch own := filepath.Join(root, "tacit"); {
	case !Within(root, path):
		return "", fmt.Errorf("is not below %s, the hooked root; leave out the leading / if the path is relative to that root", root)
	case path == root || given == "":
		return "", errors.New("is the hooked root: that would exclude every program")
	case Within(own, path):
		return "", fmt.Errorf("%s is tacit's own", own)
	}
	return path, nil
}

// Within reports whether path is dir or lies below it; both are absolute and clean.
func Within(dir, path string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// Covers reports whether connections to this address are left alone.
func (e Exclude) Covers(to netip.AddrPort) bool {
	return slices.Contains(e.Ports, to.Port()) ||
		slices.ContainsFunc(e.CIDRs, func(p netip.Prefix) bool { return p.Contains(to.Addr().Unmap()) })
}

// Clash refuses a definition that needs an excluded port.
func (e Exclude) Clash(d definition.Definition) error {
	if d.Port != 0 && slices.Contains(e.Ports, d.Port) {
		return fmt.Errorf("port %d of %s (%s) is excluded by %s: the port of a service can't be excluded; remove it there, or use another port",
			d.Port, d.ID, d.Source, e.Source("ports"))
	}
	for _, u := range d.Upstreams {
		if slices.Contains(e.Ports, u.Bind.Port()) {
			return fmt.Errorf("port %d, where %s (%s) reaches %s, is excluded by %s: remove it there, or use another port",
				u.Bind.Port(), d.ID, d.Source, u.Destination, e.Source("ports"))
		}
	}
	return nil
}
