// SPDX-License-Identifier: Apache-2.0

package secrets_test

import (
	"flag"
	"fmt"
	"math/bits"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"tacit/node/secrets"
)

// folder is a state directory as a daemon makes it.
func folder(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	must(t, os.MkdirAll(filepath.Join(dir, "authority"), 0o700))
	for _, name := range []string{"node.key", "node.crt", "state.db", "authority/root.key"} {
		must(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
	}
	return dir
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestKeyFilesLaxerThanTheirOwner: each refuses the start, with the command that
// mends it.
func TestKeyFilesLaxerThanTheirOwner(t *testing.T) {
	for name, c := range map[string]struct {
		file string
		mode os.FileMode
		want string // "" for no refusal
	}{
		"as made":              {"node.key", 0o600, ""},
		"stricter":             {"node.key", 0o400, ""},
		"read by the group":    {"node.key", 0o640, "chmod 600 "},
		"read by all":          {"authority/root.key", 0o604, "chmod 600 "},
		"run by all":           {"state.db", 0o601, "chmod 600 "},
		"a public certificate": {"node.crt", 0o644, ""},
		"the folder":           {"", 0o755, "chmod 700 "},
		"a folder in it":       {"authority", 0o710, "chmod 700 "},
	} {
		dir := folder(t)
		path := filepath.Join(dir, c.file)
		must(t, os.Chmod(path, c.mode))
		err := secrets.Check(dir)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want+path)) {
			t.Errorf("%s: %v", name, err)
		}
		if c.want == "" {
			continue
		}
		fix := c.want + path
		must(t, exec.Command("sh", "-c", fix).Run())
		if err := secrets.Check(dir); err != nil {
			t.Errorf("%s: after %s: %v", name, fix, err)
		}
	}
}

// TestKeyFilesOfOthers: whoever owns a file can read it, whatever its mode.
func TestKeyFilesOfOthers(t *testing.T) {
	dir := folder(t)
	path := filepath.Join(dir, "node.key")
	must(t, os.Chown(path, 65534, 0))
	if err := secrets.Check(dir); err == nil || !strings.Contains(err.Error(), "chown 0 "+path) {
		t.Errorf("%v", err)
	}
}

// TestEmptyFolderIsClosed: there is nothing in it that others could have read.
func TestEmptyFolderIsClosed(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o755))
	must(t, secrets.Check(dir))
	if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	must(t, secrets.Check(filepath.Join(dir, "missing")))
}

// TestBare: a program has no capability, can't gain one, and its parent keeps its
// own.
func TestBare(t *testing.T) {
	before := status(t, "self")
	var out strings.Builder
	cmd := exec.Command("cat", "/proc/self/status")
	cmd.Stdout = &out
	must(t, secrets.Bare(cmd.Start))
	must(t, cmd.Wait())
	for _, line := range []string{"CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "NoNewPrivs:\t1"} {
		if !strings.Contains(out.String(), line) {
			t.Errorf("no %q in %s", line, out.String())
		}
	}
	if after := status(t, "self"); after != before || strings.Contains(after, "CapEff:\t0000000000000000") {
		t.Errorf("the parent had %s, and has %s", before, after)
	}
}

// status is the line with a process's capabilities.
func status(t *testing.T, pid string) string {
	t.Helper()
	text, err := os.ReadFile("/proc/" + pid + "/status")
	must(t, err)
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "CapEff:") {
			return line
		}
	}
	t.Fatal("no capabilities")
	return ""
}

// TestProcess: what Close and Drop leave of a process, in one of its own.
func TestProcess(t *testing.T) {
	if flag.Arg(0) == "drop" {
		must(t, secrets.Close())
		dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
		must(t, err)
		var core unix.Rlimit
		must(t, unix.Getrlimit(unix.RLIMIT_CORE, &core))
		fmt.Println("dumpable", dumpable, "core", core.Max, "dropped", secrets.Drop())
		fmt.Print(status(t, "thread-self"))
		child, err := exec.Command("cat", "/proc/self/status").Output()
		must(t, err)
		fmt.Print("child ", string(child))
		return
	}
	out, err := exec.Command(os.Args[0], "-test.run=^TestProcess$", "drop").CombinedOutput()
	must(t, err)
	if !strings.Contains(string(out), "dumpable 0 core 0 ") {
		t.Errorf("%s", out)
	}
	if strings.Contains(string(out), "dropped operation not supported") || strings.Contains(string(out), "dropped drop capability 0: operation not supported") {
		return // built with cgo, as for the race detector: only the daemon's own build can do it
	}
	want := fmt.Sprintf("CapEff:\t%016x", secrets.Needed)
	if !strings.Contains(string(out), "dropped <nil>\n"+want) || !strings.Contains(string(out), strings.Replace(want, "CapEff", "CapBnd", 1)) {
		t.Errorf("want %s: %s", want, out)
	}
}

// TestNeededIsDocumented: the operator's page has a row for each capability that is
// kept.
func TestNeededIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/state.md")
	must(t, err)
	rows := regexp.MustCompile("(?m)^\\| `(CAP_[A-Z_]+)` \\|").FindAllStringSubmatch(string(text), -1)
	if len(rows) != bits.OnesCount64(secrets.Needed) {
		t.Errorf("%d rows for %d capabilities", len(rows), bits.OnesCount64(secrets.Needed))
	}
	for _, row := range rows {
		if n, ok := numbers[row[1]]; !ok || secrets.Needed&(1<<n) == 0 {
			t.Errorf("%s is given up", row[1])
		}
	}
}

var numbers = map[string]uint{
	"CAP_BPF": unix.CAP_BPF, "CAP_PERFMON": unix.CAP_PERFMON, "CAP_NET_ADMIN": unix.CAP_NET_ADMIN, "CAP_NET_RAW": unix.CAP_NET_RAW,
	"CAP_NET_BIND_SERVICE": unix.CAP_NET_BIND_SERVICE, "CAP_SYS_ADMIN": unix.CAP_SYS_ADMIN, "CAP_SYS_PTRACE": unix.CAP_SYS_PTRACE,
	"CAP_DAC_OVERRIDE": unix.CAP_DAC_OVERRIDE, "CAP_DAC_READ_SEARCH": unix.CAP_DAC_READ_SEARCH, "CAP_KILL": unix.CAP_KILL,
}
