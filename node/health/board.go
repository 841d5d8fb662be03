// SPDX-License-Identifier: Apache-2.0

// Package health remembers what went wrong on this node and what was repaired,
// until it goes well again, and keeps repeated log lines short. Every part
// reports here, and status shows it. It must not repair or examine anything
// itself.
package health

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"tacit/policy/shortage"
)

// Key names one problem: its family, and the thing of that family that has it
// ("hook" and "connect4"). Families with a single thing leave Thing empty.
type Key struct {
	Family Family
	Thing  string
}

func (k Key) String() string {
	if k.Thing == "" {
		return string(k.Family)
	}
	return string(k.Family) + " " + k.Thing
}

// Problem is something that went wrong and hasn't gone well since.
type Problem struct {
	Key Key
	Err error
}

// Repair is an object that others changed and that is right again.
type Repair struct {
	Object string // "hook connect4", "map ports"
	Found  string // how the object was found
	At     time.Time
	Count  int // since the start
}

// Board is safe for concurrent use.
type Board struct {
	mu       sync.Mutex
	problems map[Key]error
	repairs  map[string]Repair
	counts   map[string]func() uint64
	short    map[Key]error
}

// NewBoard returns a board without problems.
func NewBoard() *Board {
	return &Board{problems: map[Key]error{}, repairs: map[string]Repair{}, counts: map[string]func() uint64{}, short: map[Key]error{}}
}

// Set records a problem or, with nil, clears it, and reports whether that is
// news: a problem that begins, changes its text or ends. An error for want of
// descriptors or memory says nothing new about the thing: what was known stays,
// and Short returns it.
func (b *Board) Set(f Family, thing string, err error) (news bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	k := Key{f, thing}
	if b.lacks(k, err) {
		return false
	}
	old := b.problems[k]
	if err == nil {
		delete(b.problems, k)
		return old != nil
	}
	b.problems[k] = err
	return old == nil || old.Error() != err.Error()
}

// lacks remembers an error for want of something else than the thing itself.
func (b *Board) lacks(k Key, err error) bool {
	delete(b.short, k)
	if shortage.Is(err) {
		b.short[k] = err
		return true
	}
	return false
}

// Short is what couldn't be examined or done the last time for want of descriptors
// or memory, and why.
func (b *Board) Short() map[Key]error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.short)
}

// Get returns a problem, or nil.
func (b *Board) Get(f Family, thing string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.problems[Key{f, thing}]
}

// Replace records the problems of a whole family, by thing. Problems of the
// family that now lacks are cleared; a nil error in now is no problem.
func (b *Board) Replace(f Family, now map[string]error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	maps.DeleteFunc(b.short, func(k Key, _ error) bool { return k.Family == f })
	maps.DeleteFunc(b.problems, func(k Key, _ error) bool { return k.Family == f && !shortage.Is(now[k.Thing]) })
	for thing, err := range now {
		if !b.lacks(Key{f, thing}, err) && err != nil {
			b.problems[Key{f, thing}] = err
		}
	}
}

// Problems returns all problems, sorted by family and thing.
func (b *Board) Problems() []Problem {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]Problem, 0, len(b.problems))
	for k, err := range b.problems {
		out = append(out, Problem{k, err})
	}
	slices.SortFunc(out, func(a, c Problem) int {
		return cmp.Or(cmp.Compare(a.Key.Family, c.Key.Family), cmp.Compare(a.Key.Thing, c.Key.Thing))
	})
	return out
}

// Repaired records that an object was found changed by others and is right again.
func (b *Board) Repaired(object, found string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.repairs[object] = Repair{object, found, time.Now(), b.repairs[object].Count + 1}
}

// Repairs returns the last repair of each object since a moment, sorted by object.
func (b *Board) Repairs(since time.Time) []Repair {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []Repair
	for _, object := range slices.Sorted(maps.Keys(b.repairs)) {
		if r := b.repairs[object]; r.At.After(since) {
			out = append(out, r)
		}
	}
	return out
}

// Count has status show how often this node refused something.
func (b *Board) Count(what string, read func() uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.counts[what] = read
}

// Counts returns what was refused, and how often, since the start.
func (b *Board) Counts() map[string]uint64 {
	b.mu.Lock()
	counts := maps.Clone(b.counts)
	b.mu.Unlock()
	out := map[string]uint64{}
	for what, read := range counts {
		out[what] = read()
	}
	return out
}
