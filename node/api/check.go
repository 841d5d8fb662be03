// SPDX-License-Identifier: Apache-2.0

package api

import (
	"strings"
	"time"
	"unicode"

	"tacit/identity"
	"tacit/policy"
)

const maxText = 512 // bytes of a description or a reason

// fold checks a name from a request and puts it in lower case.
func fold(what string, name *Name) error { return folded(what, name, identity.ParseName) }

func folded(what string, name *Name, parse func(string) (Name, error)) error {
	n, err := parse(string(*name))
	if err != nil {
		return Failed("", "%s: %v", what, err)
	}
	*name = n
	return nil
}

// foldSource is fold for the name of a service or of an ingress.
func foldSource(what string, name *Name) error {
	return folded(what, name, identity.ParseSource)
}

func foldSources(what string, names []Name) error {
	for i := range names {
		if err := foldSource(what, &names[i]); err != nil {
			return err
		}
	}
	return nil
}

// foldPair checks the ends of an intention.
func foldPair(source, destination *Name) error {
	return first(folded("source", source, policy.ParseSource), folded("destination", destination, policy.ParseDestination))
}

// first returns the first error that isn't nil.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func text(what, s string) error {
	if len(s) > maxText || strings.ContainsFunc(s, unicode.IsControl) {
		return Failed("", "%s: must be one line of at most %d bytes", what, maxText)
	}
	return nil
}

func (*ConfirmRequest) check() error { return nil }

func (r *GrantRequest) check() error {
	if len(r.Services) == 0 {
		return Failed("", "no service to grant was given")
	}
	return first(fold("node", &r.Node), foldSources("service", r.Services), foldOutside(r.Outside))
}

func (r *TokenRequest) check() error {
	if r.TTL < 0 {
		return Failed("", "ttl %s: must not be negative", r.TTL)
	}
	return first(fold("node", &r.Node), foldSources("service", r.Services))
}

func (r *Registration) check() error {
	for i := range r.Upstreams {
		if err := fold("upstream", &r.Upstreams[i].Destination); err != nil {
			return err
		}
	}
	return fold("service", &r.Name)
}

func (r *Deregistration) check() error { return fold("service", &r.Name) }

func (r *RunRequest) check() error { return fold("service", &r.Service) }

// timeout checks how long a request waits, and fills in the default.
func timeout(d *time.Duration) error {
	if *d == 0 {
		*d = DefaultWait
	}
	if *d < 0 || *d > MaxWait {
		return Failed("", "timeout %s: must be positive and at most %s", *d, MaxWait)
	}
	return nil
}

func (r *ApplyRequest) check() error {
	type pair struct{ source, destination Name }
	seen := make(map[pair]string, len(r.Intentions))
	for i := range r.Intentions {
		w := &r.Intentions[i]
		if w.Action != ChangeAllow && w.Action != ChangeDeny {
			return Failed("", "%s: action %.40q: must be allow or deny", w.From, string(w.Action))
		}
		if err := first(text("from", w.From), foldPair(&w.Source, &w.Destination), text("description", w.Description)); err != nil {
			return err
		}
		p := pair{w.Source, w.Destination}
		if other, twice := seen[p]; twice {
			return Failed("keep one of them", "%s -> %s is given twice: %s, %s", w.Source, w.Destination, other, w.From)
		}
		seen[p] = w.From
	}
	rules := make(map[Name]string, len(r.Resolvers))
	for _, w := range r.Resolvers {
		if err := w.Validate(); err != nil {
			return Failed("", "%.512s: %v", w.From, err)
		}
		if other, twice := rules[w.Service]; twice {
			return Failed("keep one of them", "the rules of %s are given twice: %s, %s", w.Service, other, w.From)
		}
		rules[w.Service] = w.From
	}
	return timeout(&r.Timeout)
}

func (r *IntentionChange) check() error {
	switch r.Action {
	case ChangeAllow, ChangeDeny, ChangeDelete:
	default:
		return Failed("", "action %.40q: must be allow, deny or delete", string(r.Action))
	}
	if err := timeout(&r.Timeout); err != nil {
		return err
	}
	return first(foldPair(&r.Source, &r.Destination), text("description", r.Description))
}
