// SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"bytes"
	"context"
	"log"
	"log/slog"
	"sync"
	"time"
)

const warnsPerSecond = 5

// newLogger adapts memberlist's logger. Its warnings and errors become warnings,
// at most a few a second because every host on the network can cause them; all
// other lines become debug.
func newLogger(to *slog.Logger) *log.Logger {
	return log.New(&logWriter{to: to}, "", 0)
}

type logWriter struct {
	to     *slog.Logger
	mu     sync.Mutex
	second time.Time
	warned int
}

// Write takes one line of the form "[LEVEL] memberlist: text".
func (w *logWriter) Write(line []byte) (int, error) {
	level := slog.LevelDebug
	rest, ok := line, false
	for _, prefix := range []string{"[WARN] ", "[ERR] ", "[ERROR] "} {
		if rest, ok = bytes.CutPrefix(line, []byte(prefix)); ok {
			level = w.limit()
			break
		}
	}
	if !w.to.Enabled(context.Background(), level) {
		return len(line), nil
	}
	for _, prefix := range []string{"[DEBUG] ", "[INFO] ", "memberlist: "} {
		rest = bytes.TrimPrefix(rest, []byte(prefix))
	}
	w.to.Log(context.Background(), level, "gossip: "+string(bytes.TrimSpace(rest)))
	return len(line), nil
}

// limit returns warn for the first few lines of a second, then debug.
func (w *logWriter) limit() slog.Level {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now := time.Now(); now.Sub(w.second) >= time.Second {
		w.second, w.warned = now, 0
	}
	w.warned++
	if w.warned > warnsPerSecond {
		return slog.LevelDebug
	}
	return slog.LevelWarn
}
