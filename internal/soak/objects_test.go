// SPDX-License-Identifier: Apache-2.0

package soak

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// objects are eBPF programs, maps and links, by kind and number ("prog 12").
// The kernel doesn't give a number again soon, so that they can be told from
// those of other tests.
type objects map[string]bool

var objectNumber = regexp.MustCompile(`(?m)^(prog|map|link)_id:\s+(\d+)`)

// held are the objects that a process has open.
func (o objects) held(t testing.TB, pid int) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
	if err != nil || len(files) == 0 {
		t.Fatalf("descriptors of process %d: %v", pid, err)
	}
	for _, file := range files {
		text, _ := os.ReadFile(file)
		for _, m := range objectNumber.FindAllStringSubmatch(string(text), -1) {
			o[m[1]+" "+m[2]] = true
		}
	}
}

// kinds counts them.
func (o objects) kinds() string {
	n := map[string]int{}
	for name := range o {
		kind, _, _ := strings.Cut(name, " ")
		n[kind]++
	}
	return fmt.Sprint(n)
}

var listed = regexp.MustCompile(`(?m)^(\d+): `)

// alive are those of them that the kernel still has.
func (o objects) alive(t testing.TB) []string {
	t.Helper()
	var out []string
	for _, kind := range []string{"prog", "map", "link"} {
		text, err := exec.Command("bpftool", kind, "show").Output()
		if err != nil { // one that went while it was listed
			text, err = exec.Command("bpftool", kind, "show").Output()
		}
		if err != nil {
			t.Fatalf("bpftool %s show: %v", kind, err)
		}
		for _, m := range listed.FindAllStringSubmatch(string(text), -1) {
			if name := kind + " " + m[1]; o[name] {
				out = append(out, name)
			}
		}
	}
	slices.Sort(out)
	return out
}

// gone wants none of them to be left, within the time that the kernel takes.
func gone(t testing.TB, o objects) {
	t.Helper()
	testhost.Eventually(t, 20*time.Second, "the kernel frees the objects", func() error {
		if left := o.alive(t); len(left) > 0 {
			return fmt.Errorf("%d are left: %v", len(left), left)
		}
		return nil
	})
}

// TestObjectsAreSeen: a daemon's objects are found, and found to be gone.
func TestObjectsAreSeen(t *testing.T) {
	h := testhost.NewNet(t).Host(t, "host1")
	d := h.Daemon(t, "--bootstrap")
	held := objects{}
	held.held(t, d.PID())
	if n := len(held.alive(t)); n != len(held) || n < 20 {
		t.Errorf("%d of %d are there: %s", n, len(held), held.kinds())
	}
	h.Stop(t)
	if out, exit := h.Tacitd(t, "cleanup"); exit != 0 {
		t.Fatal(out)
	}
	gone(t, held)
}
