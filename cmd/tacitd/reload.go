// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/pflag"

	"tacit/node"
)

// reloading tells a daemon of SIGHUP. f are the flags that it runs with.
func (o *options) reloading(f *pflag.FlagSet) node.Reload {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGHUP)
	return node.Reload{Asked: asked, Config: func(log *slog.Logger) { o.again(f, log) }}
}

// again reads the config file of a running daemon. What can change live does; a
// bad file changes nothing.
func (o *options) again(running *pflag.FlagSet, log *slog.Logger) {
	var next options
	f := pflag.NewFlagSet("tacitd", pflag.ContinueOnError)
	next.bind(f)
	err := copyGiven(running, f)
	if err == nil {
		err = next.check(f)
	}
	if err != nil {
		log.Error("config not reloaded, the running settings stay", "err", err)
		return
	}
	if err := o.log.set(next.logFormat, next.logLevel); err == nil && (o.logFormat != next.logFormat || o.logLevel != next.logLevel) {
		o.logFormat, o.logLevel = next.logFormat, next.logLevel
		log.Info("log changed", "log_level", o.logLevel, "log_format", o.logFormat)
	}
	f.VisitAll(func(flag *pflag.Flag) {
		if old := running.Lookup(flag.Name); valueOf(flag) != valueOf(old) {
			log.Warn(keyOf(flag.Name) + " changed: restart tacitd to apply")
		}
	})
}

// check reads the config file and checks all settings as a start does.
func (o *options) check(f *pflag.FlagSet) error {
	cfg, err := o.config(f)
	if err == nil {
		_, err = cfg.Settle()
	}
	return err
}

// copyGiven sets the flags that were given on the command line.
func copyGiven(from, to *pflag.FlagSet) error {
	var failed error
	to.VisitAll(func(flag *pflag.Flag) {
		given := from.Lookup(flag.Name)
		if !given.Changed || failed != nil {
			return
		}
		flag.Changed = true
		if list, ok := flag.Value.(pflag.SliceValue); ok {
			failed = list.Replace(given.Value.(pflag.SliceValue).GetSlice())
			return
		}
		failed = flag.Value.Set(given.Value.String())
	})
	return failed
}

// valueOf is a flag's value as text.
func valueOf(flag *pflag.Flag) string {
	if list, ok := flag.Value.(pflag.SliceValue); ok {
		return fmt.Sprintf("%q", slices.Sorted(slices.Values(list.GetSlice())))
	}
	return flag.Value.String()
}

// keyOf is a flag as a key of the config file.
func keyOf(flag string) string {
	for key, name := range excludeKeys {
		if name == flag {
			return "exclude." + key
		}
	}
	return strings.ReplaceAll(flag, "-", "_")
}
