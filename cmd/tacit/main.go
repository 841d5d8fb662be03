// SPDX-License-Identifier: Apache-2.0

// Command tacit is the CLI of a tacit node: a thin client of the daemon's unix
// socket, one file for each noun. Nouns read, verbs write. It must not decide
// anything, and must not link BPF or gossip.
package main

import (
	"context"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"tacit/node/api"
)

// version is set by the linker (see the Makefile).
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	e := &env{
		stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv, environ: os.Environ,
		client:   func(socket string) *api.Client { return api.NewClient(socket) },
		lookPath: exec.LookPath, self: os.Executable, exec: syscall.Exec,
	}
	status := e.run(ctx, os.Args[1:])
	stop()
	os.Exit(status)
}
