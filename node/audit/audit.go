// SPDX-License-Identifier: Apache-2.0

// Package audit is the append-only log of what changed in the shared policy, grants
// and keys: who signed it, when this node learned it, and the value before and after.
// It must not decide anything: what it can't write doesn't stop a change.
package audit

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"tacit/node/api"
	"tacit/node/health"
	"tacit/policy/ledger"
)

// Health learns what can't be written.
type Health interface {
	Set(f health.Family, thing string, err error) (news bool)
}

// Config is what a Log works with.
type Config struct {
	Dir    string // the state directory
	View   *ledger.View
	Health Health
	Log    *slog.Logger
	Now    func() time.Time
}

// shown is how many entries are kept in memory, the latest.
const shown = 4096

// cell names what an entry is about.
type cell struct {
	kind ledger.Kind
	key  string
}

// Log is safe for concurrent use.
type Log struct {
	conf Config

	mu      sync.Mutex // guards what follows
	file    chain
	recent  []api.AuditEntry        // oldest first, at most shown
	last    map[cell]api.AuditEntry // the latest entry of each cell
	pending []api.AuditEntry        // not on disk yet, at most shown
	held    bool                    // another daemon writes the file
}

// Open reads the log, and enters what changed while it wasn't kept: a disk may have
// been full, or a file lost.
func Open(c Config) (*Log, error) {
	l := &Log{conf: c, last: map[cell]api.AuditEntry{}}
	entries, damage, err := l.file.open(c.Dir, c.Now())
	if err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range entries {
		l.remember(e)
	}
	if damage != "" {
		c.Log.Error("the audit log was damaged; it is kept aside, and a new one begun", "file", damage)
		l.last = map[cell]api.AuditEntry{} // the new one begins with all values
		l.add(api.AuditEntry{Kind: "audit", Subject: damage, Before: "damaged", After: "kept aside", By: "this node"})
	}
	l.compareAll("found at start", "")
	l.write()
	return l, nil
}

// audited are the kinds whose changes are entered: what operators and authorities sign.
func audited() []ledger.Kind {
	return []ledger.Kind{ledger.KindRoot, ledger.KindOperator, ledger.KindRevocation, ledger.KindAuthority, ledger.KindMember,
		ledger.KindGrant, ledger.KindIntention, ledger.KindResolver}
}

// Note enters what new records have changed. It is called after they are in force.
func (l *Log) Note(changed []ledger.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range changed {
		if !slices.Contains(audited(), r.Kind) {
			continue
		}
		l.compare(cell{r.Kind, r.Key}, "", signer(l.conf.View, r.Dot.Signer))
		if r.Kind == ledger.KindRevocation || r.Kind == ledger.KindOperator || r.Kind == ledger.KindAuthority {
			l.compareAll(fmt.Sprintf("follows from %s %s", r.Kind, short(r.Key)), signer(l.conf.View, r.Dot.Signer))
		}
	}
	l.write()
}

// compareAll enters every cell whose value isn't the last one entered.
func (l *Log) compareAll(why, by string) {
	seen := map[cell]bool{}
	for _, k := range audited() {
		for _, key := range l.conf.View.Keys(k) {
			seen[cell{k, key}] = true
			l.compare(cell{k, key}, why, by)
		}
	}
	for _, c := range slices.SortedFunc(maps.Keys(l.last), compareCells) {
		if !seen[c] && c.kind != "audit" {
			l.compare(c, why, by)
		}
	}
}

// compare enters a cell if its value isn't the last one entered. by is who changed it,
// "" for the signer of what is in force.
func (l *Log) compare(c cell, why, by string) {
	now, signedBy := value(l.conf.View, c)
	before, had := l.last[c]
	if had && before.After == now || !had && now == "" {
		return
	}
	if by == "" {
		by = signedBy
	}
	l.add(api.AuditEntry{Kind: string(c.kind), Subject: c.key, Before: before.After, After: now, By: by, Why: why})
}

func (l *Log) add(e api.AuditEntry) {
	e.Time = l.conf.Now().UTC().Truncate(time.Millisecond)
	e.Seq = 1
	if n := len(l.recent); n > 0 {
		e.Seq = l.recent[n-1].Seq + 1
	}
	l.remember(e)
	if l.pending = append(l.pending, e); len(l.pending) > shown {
		l.pending = l.pending[1:] // the next start finds their values
	}
}

func (l *Log) remember(e api.AuditEntry) {
	if l.recent = append(l.recent, e); len(l.recent) > shown {
		l.recent = l.recent[1:]
	}
	l.last[cell{ledger.Kind(e.Kind), e.Subject}] = e
}

// write appends what isn't on disk yet. The caller holds mu.
func (l *Log) write() {
	if len(l.pending) == 0 || l.held {
		return
	}
	err := l.file.append(l.pending)
	if news := l.conf.Health.Set(health.Audit, "", err); err != nil {
		if news {
			l.conf.Log.Error("the audit log can't be written; trying again", "err", err)
		}
		return
	}
	l.pending = nil
}

// WriteAgain writes what the disk had no room for.
func (l *Log) WriteAgain() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.write()
}

// Hold has the log write nothing until Resume: another daemon does.
func (l *Log) Hold() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = true
}

// Resume undoes Hold.
func (l *Log) Resume() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = false
	l.write()
}

// Close closes the file.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.write()
	return l.file.close()
}

// Changes lists the latest entries with a higher number, oldest first.
func (l *Log) Changes(_ context.Context, after uint64) (*api.AuditList, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := &api.AuditList{Changes: []api.AuditEntry{}}
	for _, e := range l.recent {
		if e.Seq > after {
			out.Changes = append(out.Changes, e)
		}
	}
	return out, nil
}

// Author returns who made what is in force for a record's key, and when this node
// learned it; ok is false where the log doesn't reach back.
func (l *Log) Author(k ledger.Kind, key string) (by string, at time.Time, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, ok := l.last[cell{k, key}]
	return e.By, e.Time, ok
}
