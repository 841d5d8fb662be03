// SPDX-License-Identifier: Apache-2.0

package checks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"tacit/node/definition"
	"tacit/node/secrets"
)

// tryScript runs a program in a cgroup of its own, and ends all that is left in
// it: a check leaves nothing behind.
func (m *Manager) tryScript(ctx context.Context, c *check) (status, output string) {
	g, err := newGroup(m.conf.Scripts)
	if err != nil {
		return critical(err)
	}
	defer g.remove()
	p, err := start(g, c.Args)
	if err != nil {
		return critical(err)
	}
	var ended error // why it was ended
	limit := time.NewTicker(groupTick)
	defer limit.Stop()
	for running := true; running; {
		select {
		case <-p.done:
			running = false
		case <-ctx.Done():
			ended, running = fmt.Errorf("didn't end within %s and was killed", c.Timeout), false
		case <-g.tick(limit):
			if n := g.size(); n > maxProcesses {
				ended, running = fmt.Errorf("ran %d processes, more than %d, and was killed", n, maxProcesses), false
			}
		}
	}
	g.kill()
	output = p.output()
	if ended != nil {
		return definition.StatusCritical, join(output, ended.Error())
	}
	return ofExit(p.err), output
}

// ofExit is Consul's rule.
func ofExit(err error) string {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return definition.StatusPassing
	case errors.As(err, &exit) && exit.ExitCode() == 1:
		return definition.StatusWarning
	}
	return definition.StatusCritical
}

// process is a script that was started.
type process struct {
	done chan struct{}
	err  error // after done
	pipe *os.File
	head chan string
}

// start creates the process directly in its group: it is never in the daemon's
// cgroup, which is exempt. The daemon's environment isn't inherited.
func start(g *group, args []string) (*process, error) {
	out, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	dir, err := os.Open(g.path)
	if err != nil {
		return nil, errors.Join(err, out.Close())
	}
	defer dir.Close()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", in, in
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd()), Setpgid: true}
	if err := secrets.Bare(func() error { return g.launch(cmd) }); err != nil {
		return nil, errors.Join(err, out.Close())
	}
	p := &process{done: make(chan struct{}), pipe: out, head: make(chan string, 1)}
	go p.read()
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// read keeps the beginning of the output and drops the rest: a script that
// prints without end neither blocks nor fills the memory.
func (p *process) read() {
	head, _ := io.ReadAll(io.LimitReader(p.pipe, maxOutput))
	_, _ = io.Copy(io.Discard, p.pipe)
	p.head <- string(head)
}

// output waits until the group's end has closed the pipe. A process that has
// left the group may keep it open: it isn't waited for.
func (p *process) output() string {
	late := time.AfterFunc(groupEnds, func() { _ = p.pipe.Close() })
	defer late.Stop()
	head := <-p.head
	_ = p.pipe.Close()
	<-p.done
	return head
}
