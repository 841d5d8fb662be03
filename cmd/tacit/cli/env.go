// SPDX-License-Identifier: Apache-2.0

// Package cli is what all commands of tacit share: their surroundings, their output
// and their exit statuses. It must not know a command.
package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"tacit/cmd/tacit/table"
	"tacit/cmd/tacit/text"
	"tacit/node/api"
)

// DefaultSocket is where the daemon listens unless told otherwise.
const DefaultSocket = "/run/tacit/tacit.sock"

// Env is everything outside the program that a command uses, so that tests can
// run commands in their own process.
type Env struct {
	Stdout, Stderr io.Writer
	Stdin          io.Reader
	Width          int  // of the terminal on stdout, in columns; 0: it isn't one
	Asks           bool // stdin is a terminal, so a person can answer
	Getenv         func(string) string
	Environ        func() []string
	Client         func(socket string) *api.Client
	LookPath       func(string) (string, error)
	Self           func() (string, error)                      // path of this program
	Exec           func(path string, argv, env []string) error // returns only on failure

	Socket string // --socket
	JSON   bool   // --json
}

// Exit statuses besides those that an api.Error carries.
const (
	ExitNo          = 1 // the answer is no: not healthy, denied
	ExitError       = 2
	ExitCannotExec  = 126 // run: CMD exists but can't be executed
	ExitNotFound    = 127 // run: CMD doesn't exist
	ExitInterrupted = 130
)

// ExitStatus ends a command that has already printed its result or error.
type ExitStatus int

func (s ExitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// Report prints an error on one line and what to do about it on the next.
func (e *Env) Report(err error) int {
	fmt.Fprintln(e.Stderr, "tacit:", table.OneLine(err.Error()))
	answer, ok := errors.AsType[*api.Error](err)
	if !ok {
		return ExitError
	}
	if answer.Hint != "" {
		fmt.Fprintln(e.Stderr, "  "+table.OneLine(answer.Hint))
	}
	if len(answer.Nodes) > 0 {
		fmt.Fprintln(e.Stderr, "  nodes that can: "+table.OneLine(strings.Join(answer.Nodes, ", ")))
	}
	return answer.Code
}

// NeedVerb is the error of a command that only groups others.
func NeedVerb(cmd *cobra.Command, args []string) error {
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

// Daemon is the client for the socket named by the flag, else by the environment.
func (e *Env) Daemon() *api.Client {
	for _, socket := range []string{e.Socket, e.Getenv("TACIT_SOCKET")} {
		if socket != "" {
			return e.Client(socket)
		}
	}
	return e.Client(DefaultSocket)
}

// jsonVersion is the version of the JSON that commands print. It grows when a field
// is removed or changes its meaning.
const jsonVersion = 2

// Print writes v as JSON with --json: an object with a version. Without, it calls text.
func (e *Env) Print(v any, text func(io.Writer)) error {
	if !e.JSON {
		text(e.Stdout)
		return nil
	}
	body, err := Versioned(v)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, body, "", "  "); err != nil {
		return err
	}
	_, err = fmt.Fprintln(e.Stdout, out.String())
	return err
}

// PrintList is Print for a list, which is a field of the object.
func (e *Env) PrintList(name string, v any, text func(io.Writer)) error {
	return e.Print(map[string]any{name: v}, text)
}

// Versioned is the JSON of an object, whose first field is the version.
func Versioned(v any) ([]byte, error) {
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

// Confirmed asks a person, and returns an error unless the answer is yes. Where nobody
// can answer, --yes is needed.
func (e *Env) Confirmed(question string) error {
	if !e.Asks || e.Width == 0 {
		return api.Refused("repeat it with --yes if that is meant", "this can't be undone, and nothing was changed")
	}
	fmt.Fprint(e.Stderr, question+" Type yes: ")
	answer, _ := bufio.NewReader(e.Stdin).ReadString('\n') // an end of input is no yes
	if strings.TrimSpace(answer) != "yes" {
		return api.Refused("", "nothing was changed")
	}
	return nil
}

// Warn prints warnings on standard error.
func (e *Env) Warn(lines []string) {
	for _, line := range lines {
		fmt.Fprintln(e.Stderr, "warning:", table.OneLine(line))
	}
}

// Names makes names of arguments; the daemon checks them.
func Names(args []string) []api.Name {
	out := make([]api.Name, len(args))
	for i, a := range args {
		out[i] = api.Name(a)
	}
	return out
}
