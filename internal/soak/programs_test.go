// SPDX-License-Identifier: Apache-2.0

package soak

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// programVar makes the test binary one of the programs below.
const programVar = "TACIT_SOAK_PROGRAM"

// runProgram is a caller, a server or a program that looks names up.
func runProgram(words []string) error {
	switch words[0] {
	case "serve":
		return serve(words[1:])
	case "call":
		return call(words[1])
	case "names":
		return names(words[1:])
	}
	return fmt.Errorf("%s: unknown program %q", programVar, words[0])
}

// program is the command line that runs this binary as one of its programs.
func program(t testing.TB, words ...string) []string {
	t.Helper()
	exe, err := os.Executable()
	testhost.Must(t, err)
	return []string{"env", programVar + "=" + strings.Join(words, " "), exe}
}

// quiet are the flags of daemons under load.
func quiet() []string { return []string{"--log-level", "warn"} }

// startServer starts a server as an instance of a service, and registers its port.
func startServer(t testing.TB, h *testhost.Host, name string, port int, binds ...string) *testhost.Process {
	t.Helper()
	words := []string{"serve"}
	for _, bind := range binds {
		words = append(words, fmt.Sprintf("%s:%d", bind, port))
	}
	words = program(t, words...)
	p := h.StartAs(t, name, words[0], words[1:]...)
	h.AwaitListener(t, port)
	h.Tacit(t, "service", "register", name, "--port", fmt.Sprint(port))
	return p
}

// startCaller starts a caller in a cgroup of a host.
func startCaller(t testing.TB, h *testhost.Host, cgroup string, p plan) *testhost.Process {
	t.Helper()
	text, err := json.Marshal(p)
	testhost.Must(t, err)
	file := filepath.Join(h.Dir, fmt.Sprintf("plan-%s-%d.json", p.Name, time.Now().UnixNano()))
	testhost.WriteFile(t, file, string(text))
	words := program(t, "call", file)
	return h.Start(t, cgroup, words[0], words[1:]...)
}
