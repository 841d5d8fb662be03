// SPDX-License-Identifier: Apache-2.0

package definition

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode"

	"tacit/identity"
)

// Limits, Consul's where it has them.
const (
	maxMeta      = 64
	maxMetaKey   = 128
	maxMetaValue = 512
	maxTags      = 64
	maxTag       = 512
	maxID        = 128
	maxWeight    = 65535
	maxUpstreams = 256
)

// Check fills in the defaults of a definition that doesn't come from a file, and
// returns the first error, which names the field.
func (d *Definition) Check() error {
	name, err := identity.ParseName(string(d.Name))
	if err != nil {
		return err
	}
	d.Name = name
	if d.ID == "" {
		d.ID = string(name)
	}
	if d.Weight == 0 {
		d.Weight = 1
	}
	d.Address, err = checkAddress(d.Address)
	shown, errShown := d.ClientAddress.parse()
	d.ClientAddress = shown
	key, errOutside := d.checkOutside()
	return firstOf(
		wrap("id", checkID(d.ID)), wrap("address", err), wrap("client_address", errShown), wrap("weight", checkWeight(d.Weight)),
		wrap("balance", checkWord(d.Balance, balances)), wrap("retry", checkWord(d.Retry, retries)),
		wrap("tags", checkTags(d.Tags)), wrap("meta", checkMeta(d.Meta)),
		wrap("workload", d.Workload.check()), wrap("upstreams", checkUpstreams(d.Upstreams)), wrap(key, errOutside),
	)
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func wrap(field string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", field, err)
}

func checkID(id string) error {
	if id == "" || len(id) > maxID || strings.Contains(id, "/") || strings.ContainsFunc(id, notPlain) {
		return fmt.Errorf("%.40q: must be 1 to %d visible characters without spaces or /", id, maxID)
	}
	return nil
}

func notPlain(r rune) bool { return !unicode.IsGraphic(r) || unicode.IsSpace(r) }

// checkAddress returns the address in its stored form. "" is the node's own
// address, and so is a loopback address, which other nodes can't use.
func checkAddress(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return "", fmt.Errorf("%.60q: must be an IP address; leave it out for the node's own", s)
	}
	a = a.Unmap()
	if a.IsUnspecified() || a.IsMulticast() || a.IsLinkLocalUnicast() {
		return "", fmt.Errorf("%s: other nodes can't reach it; leave it out for the node's own", a)
	}
	if a.IsLoopback() {
		return "", nil
	}
	return a.String(), nil
}

func checkWord(word string, words []string) error {
	if word != "" && !slices.Contains(words, word) {
		return fmt.Errorf("%.40q: must be one of %s", word, strings.Join(words, ", "))
	}
	return nil
}

func checkWeight(w int) error {
	if w < 1 || w > maxWeight {
		return fmt.Errorf("%d: must be 1 to %d", w, maxWeight)
	}
	return nil
}

func checkTags(tags []string) error {
	if len(tags) > maxTags {
		return fmt.Errorf("%d tags: at most %d", len(tags), maxTags)
	}
	for _, t := range tags {
		if t == "" || len(t) > maxTag || strings.ContainsFunc(t, unicode.IsControl) {
			return fmt.Errorf("tag %.40q: must be 1 to %d bytes of text", t, maxTag)
		}
	}
	return nil
}

func checkMeta(meta map[string]string) error {
	if len(meta) > maxMeta {
		return fmt.Errorf("%d pairs: at most %d", len(meta), maxMeta)
	}
	for k, v := range meta {
		if k == "" || len(k) > maxMetaKey || strings.ContainsFunc(k, notMetaKey) {
			return fmt.Errorf("key %.40q: must be 1 to %d letters, digits, - or _", k, maxMetaKey)
		}
		if len(v) > maxMetaValue {
			return fmt.Errorf("value of %q: %d bytes, at most %d", k, len(v), maxMetaValue)
		}
	}
	return nil
}

func notMetaKey(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
}

func (w Workload) check() error {
	set := 0
	for _, given := range []bool{w.Cgroup != "", w.SystemdUnit != "", w.UID != nil, w.NetNS != "", w.Container != "", w.Interface != ""} {
		if given {
			set++
		}
	}
	if set > 1 {
		return errors.New("give only one of cgroup, systemd_unit, uid, netns, container and interface")
	}
	return nil
}

func checkUpstreams(ups []Upstream) error {
	if len(ups) > maxUpstreams {
		return fmt.Errorf("%d upstreams: at most %d", len(ups), maxUpstreams)
	}
	for i, u := range ups {
		if _, err := identity.ParseName(string(u.Destination)); err != nil {
			return err
		}
		if err := checkBind(u.Bind); err != nil {
			return err
		}
		for _, other := range ups[:i] {
			if other.Bind == u.Bind {
				return fmt.Errorf("%s is given to both %s and %s", u.Bind, other.Destination, u.Destination)
			}
		}
	}
	return nil
}

func checkBind(a netip.AddrPort) error {
	if !a.Addr().IsLoopback() {
		return fmt.Errorf("%s: must be a loopback address, such as 127.0.0.1; others use the service's name", a.Addr())
	}
	if a.Port() == 0 {
		return errors.New("the port must be 1 to 65535")
	}
	return nil
}
