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

// answerLimit is for one attempt; vectors.py gives up before.
const answerLimit = 40 * time.Second

// caller is a cgroup of a host in which runner.py makes attempts on demand, also
// without a daemon.
type caller struct {
	host   *testhost.Host
	cgroup string

	once    sync.Once
	mu      sync.Mutex
	in      io.WriteCloser
	n       int
	waiting map[int]chan string // by the number of the attempt
}

// addCallers defines the callers. web may call db, evil may not, and nobody is no
// workload; names that end in 2 are on host2, where db runs. In containers app may
// call db, worse may not, and strays are in no hooked cgroup, like the programs of a
// virtual machine.
func (f *fixture) addCallers() {
	f.callers = map[string]*caller{}
	add := func(name string, h *testhost.Host, cgroup string) { f.callers[name] = &caller{host: h, cgroup: cgroup} }
	for i, h := range []*testhost.Host{f.host1, f.host2} {
		node := []string{"", "2"}[i]
		add("web"+node, h, testhost.WorkloadCgroup("web"))
		add("evil"+node, h, testhost.WorkloadCgroup("evil"))
		add("nobody"+node, h, "user")
	}
	add("db", f.host2, testhost.WorkloadCgroup("db"))
	add("outside", f.outside, "user")
	for _, name := range []string{"box", "box2", "dock", "inner"} {
		for _, cgroup := range []string{"app", "worse", "user"} {
			add(strings.Replace(name+" "+cgroup, "user", "nobody", 1), f.boxes[name], cgroup)
		}
	}
	for _, name := range []string{"stray", "stray2", "inner stray"} {
		add(name, f.boxes[name], "user")
	}
}

// isOutside reports whether a caller is outside of the mesh, so that its own packets
// may be on the wire in plain text.
func isOutside(from string) bool { return from == "outside" || strings.Contains(from, "stray") }

// attempt makes a caller try, and returns the line that vectors.py prints.
func (f *fixture) attempt(from, canary, to, with string) string {
	c, ok := f.callers[from]
	if !ok {
		f.t.Fatalf("no caller %q", from)
	}
	c.once.Do(func() { c.start(f.t, f.script("runner.py")) })
	return c.ask(append([]string{canary, f.place(to)}, strings.Fields(f.place(with))...))
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
	go func() { c.read(out); close(ended) }()
	t.Cleanup(func() { end(t, cmd, in, ended, &errs) })
}

// end closes the program's input, upon which it ends.
func end(t *testing.T, cmd *exec.Cmd, in io.Closer, ended chan struct{}, errs *strings.Builder) {
	_ = in.Close()
	timer := time.AfterFunc(5*time.Second, func() { _ = cmd.Process.Kill() })
	<-ended
	_ = cmd.Wait()
	timer.Stop()
	if errs.Len() > 0 {
		t.Logf("standard error of a caller: %s", errs)
	}
}

// read passes each answer on to the attempt that waits for it.
func (c *caller) read(out io.Reader) {
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
		return fmt.Sprintf("the caller's program has ended: %v", err)
	}
	select {
	case said := <-answer:
		return said
	case <-time.After(answerLimit):
		return "no answer"
	}
}
