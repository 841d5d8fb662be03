// SPDX-License-Identifier: Apache-2.0

package testhost

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"path"
	"strings"
	"testing"
	"time"
)

// shownLines is how much of each daemon's log a failed command shows.
const shownLines = 15

// Tacit runs the CLI against the host's daemon and returns its standard
// output. An exit status other than 0 fails the test with all that the command
// printed and the end of the daemons' logs.
func (h *Host) Tacit(t testing.TB, args ...string) string {
	t.Helper()
	out, exit := h.TryTacit(t, args...)
	if exit != 0 {
		h.failed(t, "tacit "+strings.Join(args, " "), exit, out)
	}
	return out
}

// TryTacit runs the CLI and returns its exit status and its standard output,
// followed by its standard error where the exit status isn't 0.
func (h *Host) TryTacit(t testing.TB, args ...string) (out string, exit int) {
	t.Helper()
	out, errs, exit := h.Output(t, "user", h.Bin("tacit"), append([]string{"--socket", h.Socket()}, args...)...)
	if exit != 0 {
		return out + errs, exit
	}
	if errs != "" {
		t.Logf("%s$ tacit %s, standard error:\n%s", h.Name, strings.Join(args, " "), errs)
	}
	return out, exit
}

// Tacitd runs tacitd to its end: a subcommand if args begin with one, else a
// daemon that is expected to fail. The host's flags come before args.
func (h *Host) Tacitd(t testing.TB, args ...string) (out string, exit int) {
	t.Helper()
	var words []string
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		words, args = args[:1:1], args[1:]
	}
	return h.Run(t, "init", h.Bin("tacitd"), append(append(words, h.Flags()...), args...)...)
}

// Sh runs a script with `sh -e` in the host's own cgroup and returns what it
// printed, without white space around it. A failure fails the test.
func (h *Host) Sh(t testing.TB, script string) string {
	t.Helper()
	out, exit := h.Run(t, "", "sh", "-ec", script)
	if exit != 0 {
		h.failed(t, script, exit, out)
	}
	return strings.TrimSpace(out)
}

func (h *Host) failed(t testing.TB, command string, exit int, out string) {
	t.Helper()
	t.Fatalf("%s$ %s: exit %d\n%s\n%s", h.Name, command, exit, out, h.net.logTails(shownLines))
}

// RunAs is Run for an instance of a service, by `tacit run`; service "" is a
// program that is no workload.
func (h *Host) RunAs(t testing.TB, service, name string, args ...string) (out string, exit int) {
	t.Helper()
	words := h.asService(service, name, args)
	return h.Run(t, "user", words[0], words[1:]...)
}

// StartAs is Start for an instance of a service, as RunAs.
func (h *Host) StartAs(t testing.TB, service, name string, args ...string) *Process {
	t.Helper()
	words := h.asService(service, name, args)
	return h.Start(t, "user", words[0], words[1:]...)
}

func (h *Host) asService(service, name string, args []string) []string {
	words := append([]string{name}, args...)
	if service == "" {
		return words
	}
	return append([]string{h.Bin("tacit"), "run", service, "--"}, words...)
}

// MakeWorkload makes the cgroup of a service's workload: see WorkloadCgroup.
func (h *Host) MakeWorkload(t testing.TB, service string) {
	t.Helper()
	h.Tacit(t, "run", service, "--", "true")
}

// WorkloadCgroup is the child cgroup of a host in which `tacit run` starts the
// instances of a service. What runs there needs no daemon to be the service.
func WorkloadCgroup(service string) string { return path.Join("tacit/services", service) }

// Virtual returns a service's virtual addresses on this host, which differ from
// host to host, once the host knows the service.
func (h *Host) Virtual(t testing.TB, service string) (v4, v6 netip.Addr) {
	t.Helper()
	var found struct{ Virtual4, Virtual6 netip.Addr }
	Eventually(t, 20*time.Second, h.Name+" knows "+service, func() error {
		out, exit := h.TryTacit(t, "resolve", service, "--json")
		if err := json.Unmarshal([]byte(out), &found); err != nil || !found.Virtual4.IsValid() || !found.Virtual6.IsValid() {
			return fmt.Errorf("tacit resolve: exit %d, %v: %s", exit, err, out)
		}
		return nil
	})
	return found.Virtual4, found.Virtual6
}

// AwaitListener waits until a TCP socket of the host listens on a port.
func (h *Host) AwaitListener(t testing.TB, port int) {
	t.Helper()
	filter := fmt.Sprintf("sport = :%d", port)
	AwaitText(t, 10*time.Second, fmt.Sprintf("a listener on port %d of %s", port, h.Name), fmt.Sprintf(":%d", port), func() string {
		out, _ := h.Run(t, "user", "ss", "-Hltn", filter)
		return out
	})
}
