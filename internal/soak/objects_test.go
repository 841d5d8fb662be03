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

// objects are eBPF programs, maps and links, by kind and id ("prog 12"). The kernel
// doesn't reuse ids soon, so that they aren't confused with those of other tests.
type objects map[string]bool

var objectNumber = regexp.MustCompile(`(?m)^(prog|map|link)_id:\s+(\d+)`)

// held adds the objects that a process has open.
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

// alive are the objects that still exist in the kernel.
func (o objects) alive(t testing.TB) []string {
	t.Helper()
	var out []string
	for _, kind := range []string{"prog", "map", "link"} {
		text, err := exec.Command("bpftool", kind, "show").Output()
		if err != nil { // an object was freed while bpftool listed it
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

// gone waits until the kernel has freed all objects.
func gone(t testing.TB, o objects) {
	t.Helper()
	testhost.Eventually(t, 20*time.Second, "the kernel frees the objects", func() error {
		if left := o.alive(t); len(left) > 0 {
			return fmt.Errorf("%d are left: %v", len(left), left)
		}
		return nil
	})
}

// TestObjectsAreSeen: a daemon's objects are found, and found to be freed after
// cleanup.
func TestObjectsAreSeen(t *testing.T) {
	h := testhost.NewMesh(t, testhost.MeshOptions{}).Nodes[0]
	held := objects{}
	held.held(t, h.Current(t).PID())
	if n := len(held.alive(t)); n != len(held) || n < 20 {
		t.Errorf("%d of %d are there: %s", n, len(held), held.kinds())
	}
	h.Stop(t)
	if out, exit := h.Tacitd(t, "cleanup"); exit != 0 {
		t.Fatal(out)
	}
	gone(t, held)
}
