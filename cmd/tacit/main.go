// SPDX-License-Identifier: Apache-2.0

// Command tacit is the CLI of a tacit node: a thin client of the daemon's unix
// socket, one file for each noun, here or in a room of its own. Nouns read, verbs write. It must not decide
// anything, and must not link BPF or gossip.
package main

import (
	"context"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	"tacit/cmd/tacit/cli"
	"tacit/cmd/tacit/table"
	"tacit/node/api"
)

// widthOf is what tables may take on a terminal; 0: f isn't one, and gets all.
func widthOf(f *os.File) int {
	if _, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err != nil {
		return 0
	}
	return table.Columns
}

// version is set by the linker (see the Makefile).
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	e := &env{&cli.Env{
		Stdout: os.Stdout, Stderr: os.Stderr, Stdin: os.Stdin, Width: widthOf(os.Stdout), Asks: widthOf(os.Stdin) > 0, Getenv: os.Getenv, Environ: os.Environ,
		Client:   func(socket string) *api.Client { return api.NewClient(socket) },
		LookPath: exec.LookPath, Self: os.Executable, Exec: syscall.Exec,
	}}
	status := e.run(ctx, os.Args[1:])
	stop()
	os.Exit(status)
}
