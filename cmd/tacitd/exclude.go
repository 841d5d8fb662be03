// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os/user"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/spf13/pflag"

	"tacit/node"
)

// excludeKeys are the keys of the config file's exclude block, and their flags.
var excludeKeys = map[string]string{
	"ports": "exclude-port", "cidrs": "exclude-cidr", "uids": "exclude-uid", "cgroups": "exclude-cgroup",
}

func bindExclude(f *pflag.FlagSet, e *node.Exclude) {
	f.Var(list[uint16]{&e.Ports, parsePort}, "exclude-port", "leave connections to this `PORT` alone: never decide about, capture or rewrite them; repeatable."+
		" (A service's port on this node and virtual addresses can't be excluded.)")
	f.Var(list[netip.Prefix]{&e.CIDRs, parseCIDR}, "exclude-cidr", "leave connections to this `NETWORK` alone; repeatable")
	f.Var(list[uint32]{&e.UIDs, parseUID}, "exclude-uid", "leave connections and DNS queries of this `USER`, by number or name, alone; repeatable")
	f.Var(list[string]{&e.Cgroups, parseCgroup}, "exclude-cgroup", "leave connections and DNS queries of the cgroup with this `PATH` below --cgroup alone; repeatable")
}

// list is a repeatable flag whose items are parsed one by one.
type list[T any] struct {
	items *[]T
	parse func(string) (T, error)
}

// String is the default as pflag shows it: none.
func (l list[T]) String() string { return "" }

// Type is what pflag calls the value; the usage texts have better names.
func (l list[T]) Type() string { return "list" }

// Set adds the items of one flag, separated by commas.
func (l list[T]) Set(text string) error {
	for _, part := range strings.Split(text, ",") {
		if err := l.Append(strings.TrimSpace(part)); err != nil {
			return err
		}
	}
	return nil
}

// Append adds one item, unless the list has it already.
func (l list[T]) Append(text string) error {
	item, err := l.parse(text)
	if err != nil {
		return err
	}
	for _, old := range *l.items {
		if any(old) == any(item) {
			return nil
		}
	}
	*l.items = append(*l.items, item)
	return nil
}

// Replace sets the whole list, from a config file.
func (l list[T]) Replace(texts []string) error {
	*l.items = nil
	for _, text := range texts {
		if err := l.Append(text); err != nil {
			return fmt.Errorf("%q: %w", text, err)
		}
	}
	return nil
}

// GetSlice returns the items as texts.
func (l list[T]) GetSlice() []string {
	var out []string
	for _, item := range *l.items {
		out = append(out, fmt.Sprint(item))
	}
	return out
}

func parsePort(text string) (uint16, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return 0, errors.New("must be a port from 1 to 65535")
	}
	return uint16(n), nil
}

func parseCIDR(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if a, lone := netip.ParseAddr(text); lone == nil && a.Zone() == "" {
		p, err = netip.PrefixFrom(a, a.BitLen()), nil
	}
	switch {
	case err != nil:
		return p, errors.New("must be a network such as 10.0.0.0/8 or fd00::/8, or an address")
	case p.Addr().Is4In6():
		return p, errors.New("write it as an IPv4 network")
	case p != p.Masked():
		return p, fmt.Errorf("has bits set beyond its prefix length; is %s meant?", p.Masked())
	}
	return p, nil
}

func parseUID(text string) (uint32, error) {
	if n, err := strconv.ParseUint(text, 10, 32); err == nil && n != math.MaxUint32 {
		return uint32(n), nil
	}
	u, err := user.Lookup(text)
	if err != nil {
		return 0, errors.New("is neither a user ID nor a name in /etc/passwd; give the user ID (id -u NAME)")
	}
	n, err := strconv.ParseUint(u.Uid, 10, 32)
	return uint32(n), err
}

func parseCgroup(text string) (string, error) {
	if text == "" {
		return "", errors.New("must be a path")
	}
	return text, nil
}

// applyExclude applies the exclude block, and returns the position of each of
// its lists, for error messages.
func applyExclude(path string, blocks hcl.Blocks, f *pflag.FlagSet) (map[string]string, error) {
	at := map[string]string{}
	if len(blocks) == 0 {
		return at, nil
	}
	if len(blocks) > 1 {
		return nil, fmt.Errorf("config: %s:%d: exclude: given twice, first in line %d", path, blocks[1].DefRange.Start.Line, blocks[0].DefRange.Start.Line)
	}
	attrs, diags := blocks[0].Body.JustAttributes()
	if diags.HasErrors() {
		return nil, fmt.Errorf("config: %s", firstError(diags))
	}
	for _, attr := range inOrder(attrs) {
		where := fmt.Sprintf("%s:%d: exclude.%s", path, attr.Range.Start.Line, attr.Name)
		flag := f.Lookup(excludeKeys[attr.Name])
		if flag == nil {
			return nil, fmt.Errorf("config: %s: no such setting; known are cgroups, cidrs, ports and uids", where)
		}
		if err := setFlag(flag, attr.Expr); err != nil {
			return nil, fmt.Errorf("config: %s: %w", where, err)
		}
		at[attr.Name] = where
	}
	return at, nil
}

// excludedAt adds the flags given on the command line to the file's positions.
func excludedAt(at map[string]string, f *pflag.FlagSet) map[string]string {
	for key, name := range excludeKeys {
		if f.Changed(name) {
			at[key] = "--" + name
		}
	}
	return at
}

// inExclude reports whether a key belongs in the exclude block.
func inExclude(name string) bool { return name == "exclude" || strings.HasPrefix(name, "exclude-") }
