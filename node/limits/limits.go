// SPDX-License-Identifier: Apache-2.0

// Package limits watches how much this process uses of the descriptors and the
// memory that it may use, says what connections may take of them, and has the
// garbage collector keep the process below the limit of its cgroup. It must not
// refuse or end a connection itself.
package limits

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"time"

	"tacit/node/health"
	"tacit/tproxy/headroom"
)

// interval is the time between two looks, so that what was short is known to be
// there again within a second.
const interval = 250 * time.Millisecond

// Use is how much of something this process uses; Limit 0: there is none.
type Use struct{ Used, Limit uint64 }

// Health learns what is short.
type Health interface {
	Set(f health.Family, thing string, err error) (news bool)
}

// Limits is safe for concurrent use.
type Limits struct {
	Headroom *headroom.Headroom

	health Health
	log    *slog.Logger
	ended  func()
	memory *memory
	goal   uint64 // of the garbage collector
	freed  time.Time
	slack  slack
	over   map[health.Family]bool // it wasn't short at the last look
}

// New finds the cgroup whose limit of memory holds for this process. ended is called
// when something is no longer short, so that what could not be done meanwhile is done
// at once; it must not block.
func New(h Health, log *slog.Logger, ended func()) *Limits {
	m := openMemory()
	return &Limits{Headroom: headroom.New(m.full), health: h, log: log, ended: ended, memory: m, over: map[health.Family]bool{}}
}

// Close lets go of the cgroup's files.
func (l *Limits) Close() error { return l.memory.close() }

// Run watches until ctx ends.
func (l *Limits) Run(ctx context.Context) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		l.look()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (l *Limits) look() {
	use := l.Descriptors()
	l.loosen(use.Used)
	l.report(health.Descriptors, short(use))
	l.memory.reread()
	l.collect()
	l.report(health.Memory, l.memory.short())
}

// report clears what is no longer short at the second look: where connections come
// and go, it would be short again at the next.
func (l *Limits) report(f health.Family, err error) {
	was := l.over[f]
	if l.over[f] = err == nil; err == nil && !was {
		return
	}
	switch news := l.health.Set(f, "", err); {
	case news && err != nil:
		l.log.Warn("new connections are refused", "short", f, "err", err)
	case news:
		l.log.Info("new connections are carried again", "short", f)
		l.ended()
	}
}

// short is the error for connections that use all descriptors that they may.
func short(u Use) error {
	if u.Used < u.Limit-headroom.Kept(u.Limit) {
		return nil
	}
	return fmt.Errorf("%d of %d in use, and %d are kept free of connections", u.Used, u.Limit, headroom.Kept(u.Limit))
}

// Descriptors of this process. It opens none.
func (*Limits) Descriptors() Use {
	u := Use{Limit: headroom.Limit()}
	if st, err := os.Stat("/proc/self/fd"); err == nil { // its size is their number, since Linux 6.2
		u.Used = uint64(st.Size())
	}
	return u
}

// Memory of this process's cgroup, without what the kernel can take back at once.
func (l *Limits) Memory() Use { return l.memory.use() }

// freeInterval is the time between two collections by force.
const freeInterval = 500 * time.Millisecond

// collect has the garbage collector leave room for what the kernel holds for this
// process, and for connections. While these are refused it collects at once, since
// nothing else would find out that memory has become free.
func (l *Limits) collect() {
	if goal := l.memory.goal(); goal != 0 && (goal > l.goal+l.goal/64 || goal < l.goal-l.goal/64) && os.Getenv("GOMEMLIMIT") == "" {
		l.goal = goal
		debug.SetMemoryLimit(int64(goal))
	}
	if l.memory.short() != nil && time.Since(l.freed) >= freeInterval {
		debug.FreeOSMemory()
		l.freed = time.Now()
		l.memory.reread()
	}
}
