// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"tacit/internal/testhost"
	"tacit/node/config"
	"tacit/node/workload"
)

// TestMain makes this binary what a daemon starts as its watchdog, and with
// "daemon" for its first argument a daemon that does nothing but wait.
func TestMain(m *testing.M) {
	if len(os.Args) < 2 {
		os.Exit(m.Run())
	}
	switch os.Args[1] {
	case WatchdogCommand:
		end(runWatchdog(os.Args[2:]))
	case "daemon":
		end(runDaemon(os.Args[2:]))
	default:
		os.Exit(m.Run())
	}
}

func end(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// pathFlags are the flags that a watchdog is started with.
func pathFlags(args []string) (c config.Config, rest []string, confirm time.Duration, err error) {
	f := flag.NewFlagSet("", flag.ContinueOnError)
	f.StringVar(&c.RunDir, "run-dir", "", "")
	f.StringVar(&c.BPFDir, "bpffs-dir", "", "")
	f.StringVar(&c.Cgroup, "cgroup", "", "")
	f.StringVar(&c.StateDir, "state-dir", "", "")
	f.DurationVar(&confirm, "confirm", 0, "")
	err = f.Parse(args)
	return c, f.Args(), confirm, err
}

func runWatchdog(args []string) error {
	c, rest, _, err := pathFlags(args)
	if err != nil || len(rest) != 2 {
		return fmt.Errorf("%v %w", rest, err)
	}
	_, err = Watchdog(c, rest[0], rest[1], os.NewFile(3, "pidfd"))
	return err
}

// runDaemon opens a deadline as a daemon does, says so by a file, and waits.
func runDaemon(args []string) error {
	c, _, confirm, err := pathFlags(args)
	if err != nil {
		return err
	}
	c.Confirm = confirm
	tree, err := workload.NewTree(c.Cgroup)
	if err != nil {
		return err
	}
	from, err := workload.Own()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.RunDir, 0o755); err != nil {
		return err
	}
	if _, err := OpenDeadline(DeadlineConfig{Settings: &config.Settled{Config: c}, Tree: tree, From: from, Log: slog.Default()}); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(c.StateDir, "open"), nil, 0o600); err != nil {
		return err
	}
	<-time.After(2 * time.Minute) // the test kills it before; a test that was killed leaves nothing for long
	return nil
}

// startDaemon starts such a daemon on a host and waits until its deadline is open.
func startDaemon(t *testing.T, host *testhost.Host, confirm time.Duration) *testhost.Process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := host.Start(t, "init", self, "daemon", "--run-dir", host.RunDir, "--bpffs-dir", host.BPF, "--cgroup", host.Cgroup,
		"--state-dir", host.State, "--confirm", confirm.String())
	testhost.Eventually(t, 30*time.Second, "the deadline is open", func() error {
		if !exists(filepath.Join(host.State, "open")) {
			return fmt.Errorf("not yet: %s", p.Output())
		}
		return nil
	})
	return p
}

func gone(path string) error {
	if exists(path) {
		return fmt.Errorf("%s is still there", path)
	}
	return nil
}

func pid(n int) string { return strconv.Itoa(n) }
