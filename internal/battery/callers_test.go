// SPDX-License-Identifier: Apache-2.0

package battery

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// patience is for one attempt; vectors.py gives up before.
const patience = 40 * time.Second

// caller is who tries: a cgroup of a host, with a program that makes attempts
// on demand and outlives daemons.
type caller struct {
	host   *testhost.Host
	cgroup string

	once    sync.Once
	mu      sync.Mutex
	in      io.WriteCloser
	n       int
	waiting map[int]chan string
}

// hire names the callers: web is allowed to call db, evil is not, nobody is no workload. Of
// containers, app is allowed, worse isn't, and stray is in none of the hooked
// cgroups, as a virtual machine's programs would be.
func (b *bed) hire() {
	b.callers = map[string]*caller{}
	add := func(name string, h *testhost.Host, cgroup string) { b.callers[name] = &caller{host: h, cgroup: cgroup} }
	for i, h := range []*testhost.Host{b.host1, b.host2} {
		node := []string{"", "2"}[i]
		add("web"+node, h, "tacit/services/web")
		add("evil"+node, h, "tacit/services/evil")
		add("nobody"+node, h, "user")
	}
	add("db", b.host2, "tacit/services/db")
	add("outside", b.outside, "user")
	for _, name := range []string{"box", "box2", "dock", "inner"} {
		for _, cgroup := range []string{"app", "worse", "user"} {
			add(strings.Replace(name+" "+cgroup, "user", "nobody", 1), b.boxes[name], cgroup)
		}
	}
	for _, name := range []string{"stray", "stray2", "inner stray"} {
		add(name, b.boxes[name], "user")
	}
}

// stranger says whether a caller's bytes never were the mesh's to protect.
func stranger(from string) bool { return from == "outside" || strings.Contains(from, "stray") }

// attempt makes a caller try; what the attempt says is one line.
func (b *bed) attempt(from, canary, to, with string) string {
	c, ok := b.callers[from]
	if !ok {
		b.t.Fatalf("no caller %q", from)
	}
	c.once.Do(func() { c.start(b.t, b.script("runner.py")) })
	return c.ask(append([]string{canary, b.place(to)}, strings.Fields(b.place(with))...))
}

func (c *caller) start(t *testing.T, script string) {
	cmd := c.host.Command(c.cgroup, testhost.Python(), "-B", script)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errs strings.Builder
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatalf("a caller on %s in %s: %v", c.host.Name, c.cgroup, err)
	}
	c.in, c.waiting = in, map[int]chan string{}
	ended := make(chan struct{})
	go func() { c.hear(out); close(ended) }()
	t.Cleanup(func() { end(t, cmd, in, ended, &errs) })
}

// end lets the program find the end of its input.
func end(t *testing.T, cmd *exec.Cmd, in io.Closer, ended chan struct{}, errs *strings.Builder) {
	_ = in.Close()
	timer := time.AfterFunc(5*time.Second, func() { _ = cmd.Process.Kill() })
	<-ended
	_ = cmd.Wait()
	timer.Stop()
	if errs.Len() > 0 {
		t.Logf("a caller said: %s", errs)
	}
}

// hear hands each answer to who waits for it.
func (c *caller) hear(out io.Reader) {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		number, said, _ := strings.Cut(lines.Text(), " ")
		n, _ := strconv.Atoi(number)
		c.mu.Lock()
		answer := c.waiting[n]
		delete(c.waiting, n)
		c.mu.Unlock()
		if answer != nil {
			answer <- said
		}
	}
}

func (c *caller) ask(words []string) string {
	answer := make(chan string, 1)
	c.mu.Lock()
	c.n++
	c.waiting[c.n] = answer
	line, err := json.Marshal(append([]string{strconv.Itoa(c.n)}, words...))
	if err == nil {
		_, err = c.in.Write(append(line, '\n'))
	}
	c.mu.Unlock()
	if err != nil {
		return fmt.Sprintf("the caller's program is gone: %v", err)
	}
	select {
	case said := <-answer:
		return said
	case <-time.After(patience):
		return "no answer"
	}
}
