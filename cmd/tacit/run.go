// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os/exec"

	"github.com/spf13/cobra"

	"tacit/cmd/tacit/cli"
	"tacit/cmd/tacit/table"
	"tacit/cmd/tacit/usage"
	"tacit/node/api"
)

func (e *env) runCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run SERVICE -- CMD...",
		Short: "run a program as a workload of a service",
		Long: "Run CMD as a workload of SERVICE. The daemon moves this process into the\n" +
			"workload's cgroup; then the process executes CMD, so that process ID, user and\n" +
			"terminal stay the same. A service that this node doesn't know is registered\n" +
			"without a port. The node needs a grant for it (tacit node grant) or an operator\n" +
			"key.\n\n" +
			"Exit status: CMD's; if CMD didn't run 1 refused, 2 error, 126 CMD can't be\n" +
			"executed, 127 CMD not found.",
		Example: "  tacit run web -- ./web --listen 127.0.0.1:8080\n" +
			"  tacit run shell -- bash",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage.Takes("SERVICE")(cmd, args)
			}
			return nil
		},
		ValidArgsFunction: e.CompleteServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			argv := args[1:]
			if len(argv) > 0 && argv[0] == "--" {
				argv = argv[1:]
			}
			if len(argv) == 0 {
				return fmt.Errorf("no program given: tacit run %s -- CMD", args[0])
			}
			return e.become(cmd, api.Name(args[0]), argv)
		},
	}
	cmd.Flags().SetInterspersed(false) // what follows SERVICE is CMD's
	return cmd
}

// become has this process moved into the workload's cgroup, then executes the
// program. The program is looked up first, so that a typing error changes nothing.
func (e *env) become(cmd *cobra.Command, service api.Name, argv []string) error {
	path, err := e.LookPath(argv[0])
	if err != nil {
		return e.notRun(argv[0], err)
	}
	r, err := e.Daemon().Run(cmd.Context(), api.RunRequest{Service: service})
	if err != nil {
		return err
	}
	e.Warn(r.Warnings)
	if r.Registered {
		fmt.Fprintf(e.Stderr, "registered %s without a port: others can't call it yet\n", r.Service)
	}
	if r.GrantSigned {
		fmt.Fprintf(e.Stderr, "granted %s to this node with its operator key\n", r.Service)
	}
	return e.notRun(argv[0], e.Exec(path, argv, e.Environ()))
}

// notRun reports why the program didn't run, with a shell's exit statuses.
func (e *env) notRun(program string, err error) error {
	if err == nil {
		return nil // only in tests does a successful exec return
	}
	if execErr, ok := errors.AsType[*exec.Error](err); ok {
		err = execErr.Err
	}
	fmt.Fprintf(e.Stderr, "tacit: %s: %v\n", table.OneLine(program), err)
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return cli.ExitStatus(cli.ExitNotFound)
	}
	return cli.ExitStatus(cli.ExitCannotExec)
}
