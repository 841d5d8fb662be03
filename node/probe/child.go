// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"golang.org/x/sys/unix"
)

// Serve is the child process: it reads a line of tasks and writes a line of results,
// until in ends. It needs no privilege.
func Serve(in io.Reader, out io.Writer) error {
	tasks, results := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var list []Task
		if err := tasks.Decode(&list); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("tasks: %w", err)
		}
		said := make([]Result, len(list))
		var wait sync.WaitGroup
		for i, t := range list {
			wait.Go(func() { // a task without an answer doesn't delay the others
				said[i].Name = t.Name
				if err := t.try(); err != nil {
					said[i].Err = err.Error()
				}
			})
		}
		wait.Wait()
		if err := results.Encode(said); err != nil {
			return fmt.Errorf("results: %w", err)
		}
	}
}

func (t Task) try() error {
	switch t.Kind {
	case Connect:
		return t.tryConnect()
	case Send:
		return t.trySend()
	case Names:
		return t.tryNames()
	case Captured:
		return t.tryCaptured()
	}
	return fmt.Errorf("unknown task %q", t.Kind)
}

func (t Task) tryConnect() error {
	s, err := t.open(unix.SOCK_STREAM)
	if err != nil {
		return err
	}
	defer s.close()
	switch err := s.connect(); {
	case err == nil:
		return errors.New("connected to a virtual address of no service, which must be refused")
	case !errors.Is(err, unix.ECONNREFUSED):
		return fmt.Errorf("a virtual address of no service must be refused: %w", err)
	}
	return nil
}

func (t Task) trySend() error {
	s, err := t.open(unix.SOCK_DGRAM)
	if err != nil {
		return err
	}
	defer s.close()
	switch err := s.sendTo([]byte("tacit")); {
	case err == nil:
		return errors.New("sent a datagram to a virtual address, which must be refused")
	case !errors.Is(err, unix.ECONNREFUSED):
		return fmt.Errorf("a datagram to a virtual address must be refused: %w", err)
	}
	return nil
}

func (t Task) tryCaptured() error {
	s, err := t.open(unix.SOCK_STREAM)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.connect(); err != nil {
		return fmt.Errorf("connect to the daemon through the mesh: %w", err)
	}
	if err := s.expectPeer(); err != nil {
		return err
	}
	got, err := s.readAll(len(t.Want) + 1)
	if err != nil {
		return fmt.Errorf("connected through the mesh, but the daemon didn't recognise the caller: %w", err)
	}
	if string(got) != t.Want {
		return errors.New("connected through the mesh, but another server answered")
	}
	return nil
}
