// SPDX-License-Identifier: Apache-2.0

package node

import (
	"io"
	"os"

	"tacit/node/config"
	"tacit/node/lifecycle"
	"tacit/node/membership"
	"tacit/node/secrets"
	"tacit/node/selfprobe"
)

// Config is everything a daemon can be told.
type Config = config.Config

// Exclude is what this node leaves alone.
type Exclude = config.Exclude

// Reload is how a running daemon is told to read its files again.
type Reload = config.Reload

// HostName is the default for Config.Node.
func HostName() string { return config.HostName() }

// Subcommands by which a daemon starts its helpers.
const (
	ProbeCommand    = selfprobe.Command
	WatchdogCommand = lifecycle.WatchdogCommand
)

// Plan prints every change that a start with this Config would make to the
// host, and changes nothing.
func Plan(c Config, w io.Writer) error {
	return lifecycle.Plan(c, w, lifecycle.Member{Check: checkState, Files: membership.Files})
}

// checkState is what a start says about the state directory.
func checkState(s *config.Settled) error {
	if err := secrets.Inspect(s.StateDir); err != nil {
		return err
	}
	return membership.CheckState(s)
}

// Cleanup removes all that a daemon put on this host; see lifecycle.Cleanup.
func Cleanup(c Config) (done []string, err error) { return lifecycle.Cleanup(c) }

// Doctor says whether this host is fit; see lifecycle.Doctor.
func Doctor(c Config, asJSON bool, w io.Writer) (fit bool, err error) {
	return lifecycle.Doctor(c, asJSON, w)
}

// Watchdog undoes a start that nobody confirms; see lifecycle.Watchdog.
func Watchdog(c Config, mark, back string, daemon *os.File) (undone []string, err error) {
	return lifecycle.Watchdog(c, mark, back, daemon)
}

// Probe is the life of the self-probe's process.
func Probe(in io.Reader, out io.Writer) error { return selfprobe.Serve(in, out) }
