// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"tacit/node/secrets"
)

// Prober runs tasks in a child process, which it starts when it needs one.
type Prober struct {
	Command []string // a program that calls Serve on its standard input and output
	Cgroup  string   // a directory of the v2 tree, created if missing

	mu    sync.Mutex
	child *child
}

type child struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	tasks   *json.Encoder
	results *json.Decoder
	done    chan struct{}
}

// limit is the timeout of a whole round, longer than its steps can take.
const limit = 10 * time.Second

// Ask runs all tasks, and returns their results in order. An error means that the
// tasks weren't run.
func (p *Prober) Ask(ctx context.Context, tasks []Task) ([]Result, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.child == nil {
		c, err := p.start()
		if err != nil {
			return nil, fmt.Errorf("start the probe: %w", err)
		}
		p.child = c
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	stop := context.AfterFunc(ctx, p.child.kill)
	defer stop()
	var said []Result
	err := p.child.tasks.Encode(tasks)
	if err == nil {
		err = p.child.results.Decode(&said)
	}
	if err == nil && len(said) != len(tasks) {
		err = fmt.Errorf("%d results for %d tasks", len(said), len(tasks))
	}
	if err != nil {
		p.end()
		return nil, fmt.Errorf("the probe's process: %w", errors.Join(err, ctx.Err()))
	}
	return said, nil
}

// Moved ends the process, so that the next one starts in the current cgroup and
// namespace.
func (p *Prober) Moved() { _ = p.Close() }

// Close kills the process and waits for its end.
func (p *Prober) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end()
	return nil
}

func (p *Prober) end() {
	if p.child != nil {
		p.child.kill()
		<-p.child.done
		p.child = nil
	}
}

// start creates the process directly in its cgroup: it is never in the caller's.
func (p *Prober) start() (*child, error) {
	if err := os.MkdirAll(p.Cgroup, 0o755); err != nil {
		return nil, err
	}
	dir, err := os.Open(p.Cgroup)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	cmd := exec.Command(p.Command[0], p.Command[1:]...)
	cmd.Env = []string{"GOMAXPROCS=1", "GORACE=" + os.Getenv("GORACE")}                               // the daemon's environment isn't inherited
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd()), Setpgid: true} // a terminal's signals reach only the daemon
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := secrets.Bare(cmd.Start); err != nil {
		return nil, err
	}
	c := &child{cmd: cmd, in: in, tasks: json.NewEncoder(in), results: json.NewDecoder(out), done: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // the exit status doesn't matter: the process is killed
		close(c.done)
	}()
	return c, nil
}

func (c *child) kill() {
	_ = c.in.Close()
	_ = c.cmd.Process.Kill()
}
