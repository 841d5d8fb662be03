// SPDX-License-Identifier: Apache-2.0

package limits

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tacit/node/health"
	"tacit/policy"
)

const mib = 1 << 20

func TestShort(t *testing.T) {
	for _, c := range []struct {
		use  Use
		want string
	}{
		{Use{100, 256}, ""},
		{Use{191, 256}, ""},
		{Use{192, 256}, "192 of 256 in use, and 64 are kept free of connections"},
		{Use{300, 256}, "300 of 256 in use, and 64 are kept free of connections"},
		{Use{2000, 1 << 20}, ""},
	} {
		if got := text(short(c.use)); got != c.want {
			t.Errorf("%+v: %q, want %q", c.use, got, c.want)
		}
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// TestDescriptors: the number is right, and asking opens none.
func TestDescriptors(t *testing.T) {
	l := &Limits{}
	before := l.Descriptors()
	f, err := os.Open("/")
	must(t, err)
	defer f.Close()
	if now := l.Descriptors(); now.Used != before.Used+1 || now.Limit == 0 {
		t.Errorf("%+v, and with one more %+v", before, now)
	}
}

// TestSlack: memory is given back once, a second after the end of many connections.
func TestSlack(t *testing.T) {
	for name, c := range map[string]struct {
		used []uint64
		want int
	}{
		"many end":           {[]uint64{140, 5140, 5140, 3000, 1000, 140, 140, 140, 140, 140, 140, 140, 140, 140}, 1},
		"they end slowly":    {[]uint64{5140, 4000, 3000, 2000, 1000, 900, 800, 700, 600, 500, 400, 300, 200}, 0},
		"few end":            {[]uint64{140, 300, 140, 140, 140, 140, 140, 140, 140}, 0},
		"some end":           {[]uint64{140, 5140, 4000, 4000, 4000, 4000, 4000, 4000}, 0},
		"they come and go":   {[]uint64{140, 1000, 140, 1000, 140, 1000, 140, 1000, 140, 1000}, 0},
		"many end two times": {[]uint64{5140, 140, 140, 140, 140, 140, 5140, 140, 140, 140, 140, 140, 140}, 2},
	} {
		s, n := slack{}, 0
		for _, used := range c.used {
			if s.look(used) {
				n++
			}
		}
		if n != c.want {
			t.Errorf("%s: %d times, want %d", name, n, c.want)
		}
	}
}

// TestReport: a shortage is told once, and its end at the second look.
func TestReport(t *testing.T) {
	var log bytes.Buffer
	board := health.NewBoard()
	ended := 0
	l := &Limits{ended: func() { ended++ }, health: board, log: slog.New(slog.NewTextHandler(&log, nil)), over: map[health.Family]bool{}}
	full := errors.New("192 of 256 in use")
	for i, step := range []struct {
		err   error
		short bool
		lines int
	}{{nil, false, 0}, {full, true, 1}, {full, true, 1}, {nil, true, 1}, {full, true, 1}, {nil, true, 1}, {nil, false, 2}, {nil, false, 2}} {
		l.report(health.Descriptors, step.err)
		if short := board.Get(health.Descriptors, "") != nil; short != step.short || strings.Count(log.String(), "\n") != step.lines {
			t.Errorf("step %d: short %v, log:\n%s", i, short, log.String())
		}
	}
	if ended != 1 {
		t.Errorf("its end was told %d times", ended)
	}
}

// TestLocate finds the cgroup that accounts for memory on unified and hybrid hosts.
func TestLocate(t *testing.T) {
	const v1 = "34 30 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
	const v1cpu = "31 30 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
	for _, c := range []struct{ name, groups, mounts, dir, root, usage string }{
		{"unified", "0::/tacit/daemon\n", "30 22 0:27 / /sys/fs/cgroup rw,relatime shared:4 - cgroup2 cgroup2 rw\n", "/sys/fs/cgroup/tacit/daemon", "/sys/fs/cgroup", "memory.current"},
		{"hybrid", "4:memory:/a\n1:cpu:/b\n0::/c\n", v1cpu + v1 + "40 30 0:37 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n", "/sys/fs/cgroup/memory/a", "/sys/fs/cgroup/memory", "memory.usage_in_bytes"},
		{"in a container", "5:cpu,memory:/docker/1/a\n", "34 30 0:31 /docker/1 /cg rw - cgroup cgroup rw,cpu,memory\n", "/cg/a", "/cg", "memory.usage_in_bytes"},
		{"not mounted", "0::/c\n", v1cpu, "", "", "memory.current"},
		{"nothing known", "", "", "", "", "memory.current"},
	} {
		dir, root, n := locate(c.groups, c.mounts)
		if dir != c.dir || root != c.root || n.usage != c.usage {
			t.Errorf("%s: %s below %s, %s", c.name, dir, root, n.usage)
		}
	}
}

// TestMemory: what a tree of cgroups says, and what follows.
func TestMemory(t *testing.T) {
	for _, c := range []struct {
		name                string
		limit, above        string
		usage, anon, cached uint64
		want                Use
		short               string
		goal                uint64
	}{
		{"no limit", "max", "max", 90 * mib, 80 * mib, 0, Use{}, "", 0},
		{"room", fmt.Sprint(128 * mib), "max", 60 * mib, 40 * mib, 10 * mib, Use{50 * mib, 128 * mib}, "", 86 * mib},
		{"a limit above", "max", fmt.Sprint(128 * mib), 60 * mib, 40 * mib, 10 * mib, Use{50 * mib, 128 * mib}, "", 86 * mib},
		{"the lower limit", fmt.Sprint(256 * mib), fmt.Sprint(128 * mib), 60 * mib, 50 * mib, 10 * mib, Use{50 * mib, 128 * mib}, "", 96 * mib},
		{"full", fmt.Sprint(128 * mib), "max", 112 * mib, 100 * mib, 0, Use{112 * mib, 128 * mib}, "112 of 128 MiB in use, and 16 are kept free of connections", 84 * mib},
		{"full of files only", fmt.Sprint(128 * mib), "max", 127 * mib, 40 * mib, 80 * mib, Use{47 * mib, 128 * mib}, "", 89 * mib},
		{"the kernel holds most", fmt.Sprint(128 * mib), "max", 110 * mib, 10 * mib, 0, Use{110 * mib, 128 * mib}, "", 32 * mib},
		{"much memory", fmt.Sprint(64 << 30), "max", mib, mib, 0, Use{mib, 64 << 30}, "", 48 << 30},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir()
			dir := filepath.Join(root, "tacit", "daemon") // without files of its own: accounted for above
			must(t, os.MkdirAll(dir, 0o755))
			for name, content := range map[string]string{"tacit/memory.max": c.limit, "tacit/memory.current": fmt.Sprintln(c.usage),
				"tacit/memory.stat": fmt.Sprintf("anon %d\nfile 1\ninactive_file %d\nactive_file %d\n", c.anon, c.cached/2, c.cached-c.cached/2)} {
				must(t, os.WriteFile(filepath.Join(root, name), []byte(content), 0o644))
			}
			if c.above != "max" {
				must(t, os.Rename(filepath.Join(root, "tacit"), filepath.Join(root, "moved")))
				must(t, os.MkdirAll(filepath.Join(root, "above"), 0o755))
				must(t, os.Rename(filepath.Join(root, "moved"), filepath.Join(root, "above", "tacit")))
				must(t, os.WriteFile(filepath.Join(root, "above", "memory.max"), []byte(c.above), 0o644))
				must(t, os.WriteFile(filepath.Join(root, "above", "memory.current"), []byte("1"), 0o644))
				dir = filepath.Join(root, "above", "tacit", "daemon")
			}
			g, err := openGroup(dir, root, version2())
			must(t, err)
			m := &memory{group: g}
			m.reread()
			if got := m.use(); c.want.Limit != 0 && got != c.want || got.Limit != c.want.Limit {
				t.Errorf("use %+v, want %+v", got, c.want)
			}
			if got := text(m.short()); got != c.short {
				t.Errorf("short %q, want %q", got, c.short)
			}
			if full := m.full(); (full != nil) != (c.short != "") || full != nil && policy.ReasonOf(full, "") != policy.ReasonLimit {
				t.Errorf("full: %v", full)
			}
			if got := m.goal(); got != c.goal {
				t.Errorf("goal %d MiB, want %d", got/mib, c.goal/mib)
			}
			must(t, m.close())
			if m.reread(); m.use().Limit != 0 {
				t.Error("a cgroup that is gone has a limit")
			}
		})
	}
}

// TestNoGroup: without a cgroup that accounts for memory there is no limit.
func TestNoGroup(t *testing.T) {
	g, err := openGroup(t.TempDir(), "/", version2())
	must(t, err)
	m := &memory{group: g}
	m.reread()
	if err := errors.Join(m.short(), m.full(), m.close()); err != nil || m.use() != (Use{}) || m.goal() != 0 {
		t.Errorf("%v, %+v", err, m.use())
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
