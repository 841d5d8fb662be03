// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
)

// output says how the log is written. It may change while a daemon runs.
type output struct {
	level  *slog.LevelVar
	asJSON *atomic.Bool
}

func newOutput() *output { return &output{new(slog.LevelVar), new(atomic.Bool)} }

// set changes both settings, or none where one is bad.
func (o *output) set(format, level string) error {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return fmt.Errorf("--log-level %q: debug, info, warn or error", level)
	}
	asJSON := strings.EqualFold(format, "json")
	if !asJSON && !strings.EqualFold(format, "text") {
		return fmt.Errorf("--log-format %q: text or json", format)
	}
	o.level.Set(l)
	o.asJSON.Store(asJSON)
	return nil
}

func (o *output) logger(w io.Writer) *slog.Logger {
	h := &slog.HandlerOptions{Level: o.level}
	return slog.New(formats{o.asJSON, slog.NewTextHandler(w, h), slog.NewJSONHandler(w, h)})
}

// formats is a handler that writes one of two formats.
type formats struct {
	asJSON       *atomic.Bool
	text, inJSON slog.Handler
}

func (f formats) now() slog.Handler {
	if f.asJSON.Load() {
		return f.inJSON
	}
	return f.text
}

// Enabled asks the present format's handler.
func (f formats) Enabled(ctx context.Context, l slog.Level) bool { return f.now().Enabled(ctx, l) }

// Handle writes in the present format.
func (f formats) Handle(ctx context.Context, r slog.Record) error { return f.now().Handle(ctx, r) }

// WithAttrs keeps the attributes for both formats.
func (f formats) WithAttrs(attrs []slog.Attr) slog.Handler {
	return formats{f.asJSON, f.text.WithAttrs(attrs), f.inJSON.WithAttrs(attrs)}
}

// WithGroup keeps the group for both formats.
func (f formats) WithGroup(name string) slog.Handler {
	return formats{f.asJSON, f.text.WithGroup(name), f.inJSON.WithGroup(name)}
}
