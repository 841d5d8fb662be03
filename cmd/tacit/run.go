// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os/exec"

	"github.com/spf13/cobra"

	"tacit/node/api"
)

func (e *env) runCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run SERVICE -- CMD...",
		Short: "run a program as a workload of a service",
		Long: "Run CMD as a workload of SERVICE. The daemon moves this very process into the\n" +
			"workload's cgroup, and then it becomes CMD: same process, user and terminal.\n" +
			"A service that this node doesn't know is registered without a port; the\n" +
			"node must be granted it (tacit node grant), or hold an operator key.\n\n" +
			"Exit status: CMD's; before CMD runs 1 refused, 2 error, 126 CMD can't be\n" +
			"executed, 127 CMD isn't there.",
		Example: "  tacit run web -- ./web --listen 127.0.0.1:8080\n" +
			"  tacit run shell -- bash",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: e.completeServices,
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

// become asks for the workload, then turns this process into the program. The
// program is looked up first, so that a slip of the pen changes nothing.
func (e *env) become(cmd *cobra.Command, service api.Name, argv []string) error {
	path, err := e.lookPath(argv[0])
	if err != nil {
		return e.notRun(argv[0], err)
	}
	r, err := e.daemon().Run(cmd.Context(), api.RunRequest{Service: service})
	if err != nil {
		return err
	}
	e.warn(r.Warnings)
	if r.Registered {
		fmt.Fprintf(e.stderr, "registered %s without a port: others can't call it yet\n", r.Service)
	}
	if r.GrantSigned {
		fmt.Fprintf(e.stderr, "granted %s to this node with its operator key\n", r.Service)
	}
	return e.notRun(argv[0], e.exec(path, argv, e.environ()))
}

// notRun reports in a shell's way why there is no program to run.
func (e *env) notRun(program string, err error) error {
	if err == nil {
		return nil // only tests come back from a successful exec
	}
	if execErr, ok := errors.AsType[*exec.Error](err); ok {
		err = execErr.Err
	}
	fmt.Fprintf(e.stderr, "tacit: %s: %v\n", oneLine(program), err)
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return exitStatus(exitNotFound)
	}
	return exitStatus(exitCannotExec)
}
