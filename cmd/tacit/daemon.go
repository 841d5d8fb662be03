// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"
)

// doctor and cleanup need packages that only tacitd links, so they execute tacitd.

func (e *env) doctorCommand() *cobra.Command {
	return e.daemonCommand(&cobra.Command{
		Use:   "doctor",
		Short: "check this host: kernel, cgroup v2, bpffs, iptables, sysctls, ports, limits",
		Long: "Check whether this host is fit for tacit; the daemon needn't run. This is\n" +
			"tacitd doctor, and takes its flags.\n\nExit status: 0 fit, 1 not fit.",
		Example: "  tacit doctor\n" +
			"  tacit doctor --json",
	})
}

func (e *env) cleanupCommand() *cobra.Command {
	return e.daemonCommand(&cobra.Command{
		Use:   "cleanup",
		Short: "remove all kernel and firewall state of a daemon that has ended",
		Long: "Remove every program, map, link, rule and route of tacit from this host. The\n" +
			"daemon must have ended. This is tacitd cleanup, and takes its flags.",
		Example: "  tacit cleanup\n" +
			"  tacit cleanup --run-dir /run/tacit",
	})
}

func (e *env) daemonCommand(cmd *cobra.Command) *cobra.Command {
	cmd.DisableFlagParsing = true // the flags are tacitd's
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if slices.Contains(args, "--help") || slices.Contains(args, "-h") {
			return cmd.Help()
		}
		path, err := e.findDaemon()
		if err != nil {
			return err
		}
		argv := append([]string{"tacitd", cmd.Name()}, args...)
		if err := e.Exec(path, argv, e.Environ()); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		return nil
	}
	return cmd
}

// findDaemon prefers the tacitd in this program's folder, which has its version.
func (e *env) findDaemon() (string, error) {
	if self, err := e.Self(); err == nil {
		beside := filepath.Join(filepath.Dir(self), "tacitd")
		if st, err := os.Stat(beside); err == nil && st.Mode().IsRegular() {
			return beside, nil
		}
	}
	path, err := e.LookPath("tacitd")
	if err != nil {
		return "", fmt.Errorf("tacitd is neither in the folder of tacit nor in PATH; install it")
	}
	return path, nil
}
