// SPDX-License-Identifier: Apache-2.0

package folder_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"tacit/node/definition"
	"tacit/node/definition/folder"
)

// TestReload is the life of a folder: each step changes files, and beside it
// stand the ids in force and what is reported.
func TestReload(t *testing.T) {
	steps := []struct {
		name     string
		write    map[string]string // "" removes the file
		want     string
		problems []string
	}{
		{"no folder yet", nil, "", nil},
		{"two files, others are not ours", map[string]string{"a.json": one("a"), "b.hcl": `service { name = "b" }`, "README": "x", ".c.json": "{", "d.json~": "{"}, "a b", nil},
		{"a bad file keeps its last good one", map[string]string{"a.json": `{"service": {"name": "a", "port": -1}}`}, "a b", []string{"a.json:1:27: service.port: -1: must be a whole number from 0 to 65535"}},
		{"a new file can't take an id", map[string]string{"a.json": one("a"), "0.json": one("b")}, "a b", []string{"0.json:1:1: service id b is defined in DIR/b.hcl:1 already; give one of them another id"}},
		{"nor can an old one, and it keeps what it had", map[string]string{"0.json": "", "a.json": one("z", "b")}, "a b", []string{"a.json:1:1: service id b is defined in DIR/b.hcl:1 already; give one of them another id"}},
		{"an id may move", map[string]string{"a.json": one("z", "b"), "b.hcl": `service { name = "y" }`}, "z b y", nil},
		{"a removed file drops its services", map[string]string{"a.json": ""}, "y", nil},
		{"an empty file defines nothing", map[string]string{"b.hcl": "# nothing"}, "", nil},
	}
	dir := filepath.Join(t.TempDir(), "services.d")
	folder, err := folder.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range steps {
		for file, text := range step.write {
			put(t, filepath.Join(dir, file), text)
		}
		defs, problems := folder.Reload()
		if got := ids(defs); got != step.want {
			t.Errorf("%s: got %q, want %q", step.name, got, step.want)
		}
		if got := ids(folder.Definitions()); got != step.want {
			t.Errorf("%s: Definitions: %q, want %q", step.name, got, step.want)
		}
		var got []string
		for _, p := range problems {
			got = append(got, strings.ReplaceAll(strings.TrimPrefix(p.Error(), dir+"/"), dir, "DIR"))
		}
		if !slices.Equal(got, step.problems) {
			t.Errorf("%s: problems %q, want %q", step.name, got, step.problems)
		}
	}
}

func TestUnreadable(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "big.json"), strings.Repeat(" ", 256<<10+1))
	if err := os.Symlink("/dev/null", filepath.Join(dir, "dev.hcl")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "gone.hcl")); err != nil {
		t.Fatal(err)
	}
	_, problems := folder.Load(dir)
	var got []string
	for _, p := range problems {
		got = append(got, strings.TrimPrefix(p.Error(), dir+"/"))
	}
	want := []string{"big.json: larger than 256 KiB; split it", "dev.hcl: not a regular file", "gone.hcl: can't be read: no such file or directory"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if _, err := folder.New(filepath.Join(dir, "big.json")); err == nil {
		t.Error("a file was taken for a folder")
	}
}

// TestDeepFile: the deepest text that is read must not exhaust the stack.
func TestDeepFile(t *testing.T) {
	for _, open := range []string{"[", "{", "(", "-", "!", "a{", "a=[", "${", `"${`} {
		text := "a=" + strings.Repeat(open, (256<<10)/len(open))
		if _, problems := definition.Parse("deep.hcl", []byte(text)); len(problems) == 0 {
			t.Errorf("%s: accepted", open)
		}
	}
}

func TestWatch(t *testing.T) {
	before := runtime.NumGoroutine()
	dir := t.TempDir()
	folder, err := folder.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	folder.Reload()
	put(t, filepath.Join(dir, "early.json"), one("early")) // between Reload and Watch
	ctx, cancel := context.WithCancel(t.Context())
	got, done := make(chan string, 16), make(chan error, 1)
	go func() {
		done <- folder.Watch(ctx, func() {
			defs, _ := folder.Reload()
			got <- ids(defs)
		})
	}()
	await(t, got, "early")
	put(t, filepath.Join(dir, "b.json"), one("b"))
	await(t, got, "b early")
	put(t, filepath.Join(dir, "early.json"), "")
	await(t, got, "b")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	deadline := time.Now().Add(5 * time.Second)
	for runtime.NumGoroutine() > before {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines before, %d after", before, runtime.NumGoroutine())
		}
		runtime.Gosched()
	}
}

func await(t *testing.T, got <-chan string, want string) {
	t.Helper()
	deadline := time.After(8 * time.Second)
	for {
		select {
		case s := <-got:
			if s == want {
				return
			}
		case <-deadline:
			t.Fatalf("never saw %q", want)
		}
	}
}

func one(names ...string) string {
	var parts []string
	for _, n := range names {
		parts = append(parts, fmt.Sprintf(`{"name": %q}`, n))
	}
	return `{"services": [` + strings.Join(parts, ", ") + `]}`
}

func put(t *testing.T, path, text string) {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil && text == "" {
		err = os.Remove(path)
	} else if err == nil {
		err = os.WriteFile(path, []byte(text), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func ids(defs []definition.Definition) string {
	var out []string
	for _, d := range defs {
		out = append(out, d.ID)
	}
	return strings.Join(out, " ")
}
