// SPDX-License-Identifier: Apache-2.0

// Command tacitd is the daemon of a tacit node: flags and config file become a
// node.Config, and node.Run does the rest. It must hold no other logic.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"tacit/node"
)

// version is set by the linker (see the Makefile).
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	completePath()
	if err := rootCommand(node.Run).ExecuteContext(ctx); err != nil {
		if !errors.Is(err, errReported) {
			fmt.Fprintln(os.Stderr, "tacitd:", err)
		}
		stop()
		os.Exit(1)
	}
}

// completePath lets iptables be found from a shell whose PATH is a plain user's,
// as su without - leaves it.
func completePath() {
	_ = os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
}

// errReported: the command has printed what is wrong; only the exit status is left.
var errReported = errors.New("reported")

// rootCommand reads flags and config file, and calls run with the config.
func rootCommand(run func(context.Context, node.Config) error) *cobra.Command {
	return rootCommandOf(&options{}, run)
}

func rootCommandOf(o *options, run func(context.Context, node.Config) error) *cobra.Command {
	var planOnly bool
	root := &cobra.Command{
		Use:   "tacitd",
		Short: "the daemon of a tacit node",
		Long: "tacitd captures the connections of this host's workloads, carries them to other\n" +
			"nodes in mutual TLS, and refuses those that no intention allows.\n" +
			"Every flag is also a key of the config file (HCL or JSON), with _ instead of -.",
		Example: "  tacitd --bootstrap\n" +
			"  tacitd --join host1 --token-file token\n" +
			"  tacitd --config /etc/tacit/tacitd.hcl\n" +
			"  tacitd --config /etc/tacit/tacitd.hcl --plan\n" +
			"  tacitd --config /etc/tacit/tacitd.hcl --confirm 60s",
		Version:       version,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := o.config(cmd.Flags())
			if err != nil {
				return err
			}
			if os.Geteuid() != 0 {
				return errors.New("must run as root: it loads eBPF programs and sets routes")
			}
			if planOnly {
				return node.Plan(cfg, cmd.OutOrStdout())
			}
			cfg.Reload = o.reloading(cmd.Flags())
			return run(cmd.Context(), cfg)
		},
	}
	root.Flags().BoolVar(&planOnly, "plan", false, "print every change that a start would make to this host, and exit")
	o.bind(root.PersistentFlags())
	root.AddCommand(guardCommand(o), cleanupCommand(o), doctorCommand(o), probeCommand(), watchdogCommand(o))
	return root
}

// probeCommand is the child process of the daemon's self-probe.
func probeCommand() *cobra.Command {
	return &cobra.Command{
		Use:    node.ProbeCommand,
		Short:  "connect as programs do, for the self-probe of the daemon that started this",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return node.Probe(cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
}

func guardCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "guard",
		Short: "close the services' ports and the virtual addresses, from saved state, before the daemon starts",
		Long: "A reboot clears the kernel's rules. guard restores the closed state: the ports of\n" +
			"this node's services refuse plain connections, and packets for virtual addresses\n" +
			"don't leave the host. Run it once before the network is up; the daemon takes over.",
		Example: "  tacitd guard",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := o.config(cmd.Flags())
			if err != nil {
				return err
			}
			closed, err := node.Guard(cfg)
			for _, line := range closed {
				fmt.Fprintln(cmd.OutOrStdout(), "closed:", line)
			}
			return err
		},
	}
}

func cleanupCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:     "cleanup",
		Short:   "remove all kernel and firewall state of this node, whose daemon has ended",
		Example: "  tacitd cleanup",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := o.config(cmd.Flags())
			if err != nil {
				return err
			}
			removed, err := node.Cleanup(cfg)
			for _, line := range removed {
				fmt.Fprintln(cmd.OutOrStdout(), line)
			}
			return err
		},
	}
}

func doctorCommand(o *options) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "doctor",
		Short:   "check this host: kernel, cgroup v2, bpffs, iptables, sysctls, ports, limits",
		Example: "  tacitd doctor",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := o.config(cmd.Flags())
			if err != nil {
				return err
			}
			fit, err := node.Doctor(cfg, asJSON, cmd.OutOrStdout())
			if err == nil && !fit {
				return errReported
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// watchdogCommand is the process that tacitd --confirm starts beside itself; file
// descriptor 3 is the daemon's pidfd.
func watchdogCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:     node.WatchdogCommand + " MARK CGROUP",
		Short:   "undo a start that isn't confirmed; tacitd --confirm starts this command",
		Example: "  tacitd --confirm 60s",
		Args:    cobra.ExactArgs(2),
		Hidden:  true,
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := o.config(cmd.Flags())
			if err != nil {
				return err
			}
			daemon := os.NewFile(3, "pidfd")
			if daemon == nil {
				return errors.New("only tacitd --confirm may start this command")
			}
			undone, err := node.Watchdog(cfg, args[0], args[1], daemon)
			if len(undone) > 0 && err == nil {
				err = errors.New("not confirmed in time (tacit confirm), and tacitd had ended or hung: everything was undone")
			}
			return err
		},
	}
}
