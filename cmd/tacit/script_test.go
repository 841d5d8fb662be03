// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"tacit/cmd/tacit/cli"
	"tacit/cmd/tacit/table"
	"tacit/node/api"
)

// TestMain lets scripts start this test program as tacit, and as the tacitd that
// doctor and cleanup execute.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"tacit": main, "tacitd": printArgs})
}

func printArgs() {
	_, _ = os.Stdout.WriteString("tacitd was called with: " + strings.Join(os.Args[1:], " ") + "\n")
	if len(os.Args) > 1 && os.Args[1] == "doctor" {
		os.Exit(1) // not fit
	}
}

// TestScripts runs the sessions of testdata, each with a daemon of its own.
// They read like a manual.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:   "testdata",
		Setup: startFake,
		Cmds:  map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "narrow": narrow},
		Condition: func(cond string) (bool, error) {
			return false, errors.New("no condition is called " + cond)
		},
	})
}

func startFake(e *testscript.Env) error {
	socket := filepath.Join(e.WorkDir, "tacit.sock")
	ln, err := api.Listen(socket)
	if err != nil {
		return err
	}
	srv := api.NewServer((&fake{file: filepath.Join(e.WorkDir, "asked")}).backend(), slog.New(slog.NewTextHandler(io.Discard, nil)))
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	e.Defer(func() {
		err := errors.Join(srv.Shutdown(context.Background()), <-done)
		if !errors.Is(err, http.ErrServerClosed) {
			panic(err)
		}
	})
	e.Setenv("TACIT_SOCKET", socket)
	return nil
}

// exits runs a command and expects this exit status: exits 1 tacit status
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits STATUS CMD...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

// narrow checks that the last output fits in a terminal of 100 table.Columns.
func narrow(ts *testscript.TestScript, _ bool, _ []string) {
	for line := range strings.Lines(ts.ReadFile("stdout")) {
		if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > table.Columns {
			ts.Fatalf("%d columns: %s", n, line)
		}
	}
}

// TestHelp: every command has help with an example that starts with the
// command itself, and no line is longer than 100 table.Columns.
func TestHelp(t *testing.T) {
	e := &env{&cli.Env{Stdout: io.Discard, Stderr: io.Discard, Getenv: os.Getenv}}
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		t.Run(cmd.CommandPath(), func(t *testing.T) {
			if cmd.Short == "" || cmd.Example == "" {
				t.Error("needs a short text and an example")
			}
			for line := range strings.Lines(cmd.Example) {
				if !strings.HasPrefix(line, "  "+cmd.CommandPath()) && cmd.Name() != "help" {
					t.Errorf("example %q is of another command", line)
				}
			}
			var out strings.Builder
			cmd.SetOut(&out)
			if err := cmd.Help(); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(out.String(), "Examples:\n") {
				t.Error("help shows no example")
			}
			for line := range strings.Lines(out.String()) {
				if len(line) > table.Columns+1 {
					t.Errorf("%d columns: %s", len(line), line)
				}
			}
		})
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(e.root())
}
