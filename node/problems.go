// SPDX-License-Identifier: Apache-2.0

package node

import (
	"maps"
	"slices"
	"sync"
)

// problems are what went wrong last, by what it was; status shows them until
// the same thing goes well.
type problems struct {
	mu  sync.Mutex
	all map[string]error
}

// set records or, with nil, clears a problem.
func (p *problems) set(what string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		delete(p.all, what)
		return
	}
	if p.all == nil {
		p.all = map[string]error{}
	}
	p.all[what] = err
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
