// SPDX-License-Identifier: Apache-2.0

package health

import (
	"cmp"
	"context"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// LogInterval is how often a line that repeats itself is logged.
const LogInterval = 10 * time.Second

// maxLines bounds the memory of a Limiter. Beyond it, lines with the same
// message count as one.
const maxLines = 1024

// Limiter is a slog.Handler in front of another: the first of several lines
// that say the same passes at once, the others are counted, and every
// LogInterval the last of them passes with the attribute repeated=N. Lines say
// the same when level, message and all attributes but those of volatile are
// equal; numbers inside an err don't count. Lines below Info always pass.
type Limiter struct {
	next   slog.Handler
	prefix string // the attributes of WithAttrs and the groups of WithGroup
	shared *lines
}

// volatile are attributes that differ between events of one cause; "said" is what
// follows from the words of somebody who has proven nothing.
var volatile = []string{"pid", "target", "client", "peer", "from", "said"}

var digits = regexp.MustCompile(`[0-9]+`)

type lines struct {
	mu    sync.Mutex
	timer *time.Timer
	byKey map[string]*line
}

type line struct {
	handler slog.Handler
	last    slog.Record
	count   int // lines since the one that passed
}

// NewLimiter puts a limiter in front of next.
func NewLimiter(next slog.Handler) *Limiter {
	return &Limiter{next: next, shared: &lines{byKey: map[string]*line{}}}
}

// Enabled asks the handler behind.
func (l *Limiter) Enabled(ctx context.Context, level slog.Level) bool {
	return l.next.Enabled(ctx, level)
}

// WithAttrs shares the counts with l.
func (l *Limiter) WithAttrs(attrs []slog.Attr) slog.Handler {
	prefix := l.prefix
	for _, a := range attrs {
		prefix += keyOf(a)
	}
	return &Limiter{l.next.WithAttrs(attrs), prefix, l.shared}
}

// WithGroup shares the counts with l.
func (l *Limiter) WithGroup(name string) slog.Handler {
	return &Limiter{l.next.WithGroup(name), l.prefix + "\x00" + name, l.shared}
}

// Handle passes the record on or counts it.
func (l *Limiter) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelInfo && l.shared.counted(l.key(r), l.next, r) {
		return nil
	}
	return l.next.Handle(ctx, r)
}

func (l *Limiter) key(r slog.Record) string {
	var b strings.Builder
	b.WriteString(r.Level.String() + l.prefix + "\x00" + digits.ReplaceAllString(r.Message, "#")) // a library's say how long and how often
	r.Attrs(func(a slog.Attr) bool {
		b.WriteString(keyOf(a))
		return true
	})
	return b.String()
}

func keyOf(a slog.Attr) string {
	if slices.Contains(volatile, a.Key) {
		return ""
	}
	value := a.Value.String()
	if a.Key == "err" {
		value = digits.ReplaceAllString(value, "#")
	}
	return "\x00" + a.Key + "=" + value
}

// counted reports whether a line like this one passed lately; else this one
// must pass.
func (s *lines) counted(key string, h slog.Handler, r slog.Record) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.byKey) >= maxLines && s.byKey[key] == nil {
		key = r.Message
	}
	one := s.byKey[key]
	if one == nil {
		s.byKey[key] = &line{}
		s.arm()
		return false
	}
	one.handler, one.last = h, r.Clone()
	one.count++
	return true
}

// arm makes sure that the counts are told in time; nothing runs while no line
// waits.
func (s *lines) arm() {
	if s.timer == nil {
		s.timer = time.AfterFunc(LogInterval, func() { s.flush(true) })
	}
}

// flush passes what was counted; lines that weren't repeated are forgotten.
func (s *lines) flush(again bool) {
	s.mu.Lock()
	var due []*line
	for key, one := range s.byKey {
		if one.count == 0 {
			delete(s.byKey, key)
			continue
		}
		due = append(due, &line{one.handler, one.last, one.count})
		one.count = 0
	}
	s.timer = nil
	if again && len(s.byKey) > 0 {
		s.arm()
	}
	s.mu.Unlock()
	slices.SortFunc(due, func(a, b *line) int {
		return cmp.Or(a.last.Time.Compare(b.last.Time), strings.Compare(a.last.Message, b.last.Message))
	})
	for _, one := range due {
		one.last.AddAttrs(slog.Int("repeated", one.count))
		_ = one.handler.Handle(context.Background(), one.last) // a log that can't be written can't be told of
	}
}

// Flush passes at once what was counted: for the end of the daemon.
func (l *Limiter) Flush() { l.shared.flush(false) }
