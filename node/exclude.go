// SPDX-License-Identifier: Apache-2.0

package node

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
// cgroups, and connections to these ports and networks. They are never judged,
// captured or rewritten, and an excluded program's names go where it sends
// them. It opens nothing: a strict service's port on this node stays closed to
// plain connections from everybody, a workload stays judged whatever user it
// runs as, and virtual addresses are always the mesh's.
type Exclude struct {
	Ports   []uint16
	CIDRs   []netip.Prefix
	UIDs    []uint32
	Cgroups []string // below the hooked root, or absolute inside it; absolute once the Config is settled

	// At says for each list where it was given, file:line or a flag, by the
	// keys ports, cidrs, uids and cgroups. For messages only.
	At map[string]string
}

func (e Exclude) at(list string) string {
	if at := e.At[list]; at != "" {
		return at
	}
	return "exclude." + list
}

// settle checks what can't be meant, and makes the cgroups absolute.
func (e Exclude) settle(root string, virtual ...netip.Prefix) (Exclude, error) {
	if slices.Contains(e.Ports, 0) {
		return e, fmt.Errorf("%s: port 0: must be 1 to 65535", e.at("ports"))
	}
	if slices.Contains(e.UIDs, math.MaxUint32) {
		return e, fmt.Errorf("%s: user %d: is no user", e.at("uids"), uint32(math.MaxUint32))
	}
	for _, p := range e.CIDRs {
		for _, v := range virtual {
			if p.Overlaps(v) {
				return e, fmt.Errorf("%s: %s overlaps the virtual addresses %s (--virtual-range%d), which are always the mesh's: leave them out, or move the range",
					e.at("cidrs"), p, v, ipVersion(v.Addr()))
			}
		}
	}
	var paths []string
	for _, given := range e.Cgroups {
		path, err := excludedCgroup(root, given)
		if err != nil {
			return e, fmt.Errorf("%s: cgroup %q: %w", e.at("cgroups"), given, err)
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

// excludedCgroup is the absolute path of a cgroup that may be excluded.
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
	case !within(root, path):
		return "", fmt.Errorf("is not below %s, the hooked root; write it without / at the beginning if it is meant from there", root)
	case path == root || given == "":
		return "", errors.New("is the hooked root: that would exclude every program")
	case within(own, path):
		return "", fmt.Errorf("%s is tacit's own", own)
	}
	return path, nil
}

// within says whether path is dir or lies below it; both are absolute and clean.
func within(dir, path string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// covers says whether connections to this address are left alone.
func (e Exclude) covers(to netip.AddrPort) bool {
	return slices.Contains(e.Ports, to.Port()) ||
		slices.ContainsFunc(e.CIDRs, func(p netip.Prefix) bool { return p.Contains(to.Addr().Unmap()) })
}

// clash refuses a definition that needs a port which is to be left alone.
func (e Exclude) clash(d definition.Definition) error {
	if d.Port != 0 && slices.Contains(e.Ports, d.Port) {
		return fmt.Errorf("port %d of %s (%s) is to be left alone by %s: a service's own port can't be excluded; take it out there, or use another port",
			d.Port, d.ID, d.Source, e.at("ports"))
	}
	for _, u := range d.Upstreams {
		if slices.Contains(e.Ports, u.Bind.Port()) {
			return fmt.Errorf("port %d, at which %s (%s) reaches %s, is to be left alone by %s: take it out there, or use another port",
				u.Bind.Port(), d.ID, d.Source, u.Destination, e.at("ports"))
		}
	}
	return nil
}
