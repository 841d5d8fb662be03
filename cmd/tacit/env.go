// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"tacit/cmd/tacit/table"
	"tacit/cmd/tacit/text"
	"tacit/cmd/tacit/usage"
	"tacit/node/api"
)

const defaultSocket = "/run/tacit/tacit.sock"

// env is everything outside the program that a command uses, so that tests can
// run commands in their own process.
type env struct {
	stdout, stderr io.Writer
	stdin          io.Reader
	width          int // of the terminal on stdout, in columns; 0: it isn't one
	getenv         func(string) string
	environ        func() []string
	client         func(socket string) *api.Client
	lookPath       func(string) (string, error)
	self           func() (string, error)                      // path of this program
	exec           func(path string, argv, env []string) error // returns only on failure

	socket string // --socket
	json   bool   // --json
}

// Exit statuses besides those that an api.Error carries.
const (
	exitNo          = 1 // the answer is no: not healthy, denied
	exitError       = 2
	exitCannotExec  = 126 // run: CMD exists but can't be executed
	exitNotFound    = 127 // run: CMD doesn't exist
	exitInterrupted = 130
)

// exitStatus ends a command that has already printed its result or error.
type exitStatus int

func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// run is the whole program; it returns the exit status.
func (e *env) run(ctx context.Context, args []string) int {
	root := e.root()
	root.SetArgs(args)
	root.SetOut(e.stdout)
	root.SetErr(e.stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if status, ok := errors.AsType[exitStatus](err); ok {
		return int(status)
	}
	if ctx.Err() != nil {
		fmt.Fprintln(e.stderr, "tacit: interrupted")
		return exitInterrupted
	}
	return e.report(err)
}

// report prints an error on one line and what to do about it on the next.
func (e *env) report(err error) int {
	fmt.Fprintln(e.stderr, "tacit:", table.OneLine(err.Error()))
	answer, ok := errors.AsType[*api.Error](err)
	if !ok {
		return exitError
	}
	if answer.Hint != "" {
		fmt.Fprintln(e.stderr, "  "+table.OneLine(answer.Hint))
	}
	if len(answer.Nodes) > 0 {
		fmt.Fprintln(e.stderr, "  nodes that can: "+table.OneLine(strings.Join(answer.Nodes, ", ")))
	}
	return answer.Code
}

func (e *env) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "tacit",
		Short: "inspect and change a tacit mesh",
		Long: "tacit talks to this host's tacitd. Nouns read, verbs change.\n\n" +
			"Exit status: 0 done, 1 refused or the answer is no, 2 error.",
		Example: "  tacit status\n" +
			"  tacit run web -- ./web\n" +
			"  tacit intention allow web db --wait",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.ArbitraryArgs,
		RunE:          needVerb,
	}
	root.SetFlagErrorFunc(usage.FlagError)
	flags := root.PersistentFlags()
	flags.StringVar(&e.socket, "socket", "", "the daemon's socket (default $TACIT_SOCKET or "+defaultSocket+")")
	flags.BoolVar(&e.json, "json", false, "print JSON")
	root.AddCommand(
		e.statusCommand(), e.resolveCommand(), e.flowsCommand(), e.nodesCommand(), e.nodeCommand(), e.tokenCommand(),
		e.servicesCommand(), e.serviceCommand(), e.runCommand(), e.intentionCommand(), e.applyCommand(),
		e.confirmCommand(), e.doctorCommand(), e.cleanupCommand(),
	)
	addCompletion(root)
	return root
}

// needVerb is the error of a command that only groups others.
func needVerb(cmd *cobra.Command, args []string) error {
	var verbs []string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			verbs = append(verbs, sub.Name())
		}
	}
	known := fmt.Sprintf("; give one of %s", text.List(verbs))
	if len(args) > 0 {
		return fmt.Errorf("%s has no command %.40q%s%s", cmd.CommandPath(), args[0], api.Nearest(args[0], verbs), known)
	}
	return fmt.Errorf("%s needs a command%s", cmd.CommandPath(), known)
}

// daemon is the client for the socket named by the flag, else by the environment.
func (e *env) daemon() *api.Client {
	for _, socket := range []string{e.socket, e.getenv("TACIT_SOCKET")} {
		if socket != "" {
			return e.client(socket)
		}
	}
	return e.client(defaultSocket)
}

// jsonVersion is the version of the JSON that commands print. It grows when a field
// is removed or changes its meaning.
const jsonVersion = 1

// print writes v as JSON with --json: an object with a version. Without, it calls text.
func (e *env) print(v any, text func(io.Writer)) error {
	if !e.json {
		text(e.stdout)
		return nil
	}
	body, err := versioned(v)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, body, "", "  "); err != nil {
		return err
	}
	_, err = fmt.Fprintln(e.stdout, out.String())
	return err
}

// printList is print for a list, which is a field of the object.
func (e *env) printList(name string, v any, text func(io.Writer)) error {
	return e.print(map[string]any{name: v}, text)
}

// versioned is the JSON of an object, whose first field is the version.
func versioned(v any) ([]byte, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	out := fmt.Appendf(nil, `{"version":%d`, jsonVersion)
	if rest := bytes.TrimPrefix(body, []byte("{")); !bytes.Equal(rest, []byte("}")) {
		return append(append(out, ','), rest...), nil
	}
	return append(out, '}'), nil
}

// warn prints warnings on standard error.
func (e *env) warn(lines []string) {
	for _, line := range lines {
		fmt.Fprintln(e.stderr, "warning:", table.OneLine(line))
	}
}

func names(args []string) []api.Name {
	out := make([]api.Name, len(args))
	for i, a := range args {
		out[i] = api.Name(a)
	}
	return out
}
