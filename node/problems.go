// SPDX-License-Identifier: Apache-2.0

package node

import (
	"maps"
	"slices"
	"strings"
	"sync"
)

// problems are what went wrong last, by what it was; status shows them until
// the same thing goes well.
type problems struct {
	mu  sync.Mutex
	all map[string]error
}

// set records or, with nil, clears a problem, and says whether that is news.
func (p *problems) set(what string, err error) (news bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.all[what]
	if err == nil {
		delete(p.all, what)
		return old != nil
	}
	if p.all == nil {
		p.all = map[string]error{}
	}
	p.all[what] = err
	return old == nil || old.Error() != err.Error()
}

// get returns a problem, or nil.
func (p *problems) get(what string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.all[what]
}

// replace sets a whole group: what was wrong before and isn't now is cleared.
func (p *problems) replace(group string, now map[string]error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.all, func(what string, _ error) bool { return strings.HasPrefix(what, group+" ") })
	for what, err := range now {
		if err == nil {
			continue
		}
		if p.all == nil {
			p.all = map[string]error{}
		}
		p.all[group+" "+what] = err
	}
}

// each hands every problem to f, in order of name.
func (p *problems) each(f func(what string, err error)) {
	p.mu.Lock()
	all := maps.Clone(p.all)
	p.mu.Unlock()
	for _, what := range slices.Sorted(maps.Keys(all)) {
		f(what, all[what])
	}
}
