// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// places are the hooked cgroup and network namespace, opened for queries.
type places struct{ cgroup, netns *os.File }

func (o *Objects) openPlaces() (places, error) {
	cgroup, err := os.Open(o.conf.Cgroup)
	if err != nil {
		return places{}, fmt.Errorf("open the hooked cgroup: %w", err)
	}
	netns, err := os.Open(ownNetNS)
	if err != nil {
		return places{}, errors.Join(err, cgroup.Close())
	}
	return places{cgroup, netns}, nil
}

func (p places) close() {
	_ = p.cgroup.Close()
	_ = p.netns.Close()
}

// others lists the other programs that run at the hook, including those attached to
// parent cgroups. It is an error where the hook's own program isn't effective.
func (p places) others(h *hook) ([]string, error) {
	if h.attach == ebpf.AttachNetfilter {
		return nil, nil // the kernel can't list netfilter programs
	}
	ask := link.QueryOptions{Target: int(p.cgroup.Fd()), Attach: h.attach, QueryFlags: unix.BPF_F_QUERY_EFFECTIVE}
	if h.attach == ebpf.AttachSkLookup {
		ask.Target, ask.QueryFlags = int(p.netns.Fd()), 0
	}
	running, err := link.QueryPrograms(ask)
	if err != nil {
		return nil, err
	}
	mine, err := programID(h.prog)
	if err != nil {
		return nil, err
	}
	found := false
	var others []string
	for _, r := range running.Programs {
		if r.ID == mine {
			found = true
			continue
		}
		others = append(others, describe(r.ID))
	}
	if !found {
		return others, errors.New("attached, but not among the effective programs")
	}
	return others, nil
}

// describe returns the name and id of a program.
func describe(id ebpf.ProgramID) string {
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return fmt.Sprintf("id %d", id)
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil || info.Name == "" {
		return fmt.Sprintf("id %d", id)
	}
	return fmt.Sprintf("%s (id %d)", info.Name, id)
}
