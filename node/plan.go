// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"

	"tacit/bpf"
	"tacit/identity"
	"tacit/node/definition"
	"tacit/node/dns"
	"tacit/node/workload"
)

// Plan prints every change that a start with this Config would make to the
// host, in the order of making, and what is there already. It changes nothing.
// Errors are those of a start that can be known beforehand.
func Plan(c Config, w io.Writer) error {
	s, err := c.settle()
	if err != nil {
		return err
	}
	if s.Cgroup, err = filepath.Abs(s.Cgroup); err != nil {
		return err
	}
	p := &plan{cfg: s}
	if err := p.look(); err != nil {
		return err
	}
	groups := []func() (planGroup, error){p.files, p.cgroups, p.ports, p.maps, p.programs, p.listeners, p.steering, p.services, p.untouched}
	fmt.Fprintf(w, "A start of tacitd with these settings makes the changes below, in this order. Nothing has been done.\n%s", p.note)
	for _, make := range groups {
		g, err := make()
		if err != nil {
			return err
		}
		g.print(w)
	}
	return nil
}

// plan is what is known of the host before anything is done.
type plan struct {
	cfg       *settled
	running   bool // a tacitd is, here
	note      string
	resolvers []netip.Addr
	spared    []netip.Addr // resolvers that are excluded
}

// planGroup is one heading with its steps.
type planGroup struct {
	title string
	steps []planStep
}

// planStep is one change. The states are words, so that they can be searched.
type planStep struct{ state, text string }

const (
	stateAdd     = "add"
	statePresent = "present" // and stays as it is
	stateUpdate  = "update"  // is there, and changed
	stateRemove  = "remove"
	stateNever   = "untouched"
)

func (g planGroup) print(w io.Writer) {
	fmt.Fprintf(w, "\n%s\n", g.title)
	for _, s := range g.steps {
		fmt.Fprintf(w, "  %-9s %s\n", s.state, s.text)
	}
}

func (g *planGroup) step(state, format string, args ...any) {
	g.steps = append(g.steps, planStep{state, fmt.Sprintf(format, args...)})
}

// make adds a step for what a start makes where it is missing.
func (g *planGroup) make(there bool, format string, args ...any) {
	state := stateAdd
	if there {
		state = statePresent
	}
	g.step(state, format, args...)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// look reads what a start reads before it changes anything.
func (p *plan) look() error {
	s := p.cfg
	tree, err := workload.NewTree(s.Cgroup)
	if err != nil {
		return err
	}
	if pids := tree.Daemons(); len(pids) > 0 {
		p.running = true
		p.note = fmt.Sprintf("A tacitd runs here now (process %d): a start is refused until it has stopped. What it holds is shown as present.\n", pids[0])
	}
	if _, err := definition.NewFolder(s.ServicesDir); err != nil {
		return err
	}
	if err := s.checkMembership(); err != nil {
		return err
	}
	all, _, err := dns.Resolvers(s.ResolvConf)
	for _, a := range all {
		if s.Exclude.covers(netip.AddrPortFrom(a, 53)) {
			p.spared = append(p.spared, a)
		} else {
			p.resolvers = append(p.resolvers, a)
		}
	}
	return err
}

// errNoMesh: neither state nor flags make this node a member.
var errNoMesh = errors.New("this node is in no mesh yet: start it with --bootstrap, or with --join ADDR --token-file FILE")

// checkMembership is what enter would say, by the files alone: a running
// daemon has the state locked.
func (s *settled) checkMembership() error {
	var err error
	switch {
	case exists(s.path(fileNodeCert)):
		err = s.checkName()
	case s.Bootstrap:
	case len(s.Join) > 0:
		_, _, err = readToken(s)
	default:
		err = errNoMesh
	}
	return err
}

// checkName compares --node with the name in this node's certificate.
func (s *settled) checkName() error {
	key, err := identity.LoadKey(s.path(fileNodeKey))
	if err != nil {
		return err
	}
	svid, err := identity.LoadSVID(s.path(fileNodeCert), key)
	if err == nil && svid.ID.Name() != s.name {
		err = s.otherNode(string(svid.ID.Name()))
	}
	return err
}

func (p *plan) files() (planGroup, error) {
	s, g := p.cfg, planGroup{title: "Files"}
	g.make(exists(s.StateDir), "%s, the state (mode 0700)", s.StateDir)
	names := []string{"state.db", fileNodeKey, fileNodeCert}
	member := exists(s.path(fileNodeCert))
	if !member && s.Bootstrap || exists(s.path(dirAuthority)) {
		names = append(names, dirAuthority, fileOperator)
	}
	for _, name := range names {
		g.make(exists(s.path(name)), "%s", s.path(name))
	}
	g.make(exists(s.RunDir), "%s, for the CLI's socket (mode 0755)", s.RunDir)
	g.make(p.running && exists(s.SocketPath()), "%s, the CLI's socket", s.SocketPath())
	if s.Confirm > 0 {
		g.step(stateAdd, "%s, until tacit confirm or for %s", s.windowPath(), s.Confirm)
	}
	return g, nil
}

func (p *plan) cgroups() (planGroup, error) {
	g := planGroup{title: "Cgroups"}
	for _, dir := range []string{"tacit", "tacit/daemon", "tacit/probe"} {
		path := filepath.Join(p.cfg.Cgroup, dir)
		g.make(exists(path), "%s", path)
	}
	g.make(p.running, "tacitd's own process moves to %s: its connections are exempt", filepath.Join(p.cfg.Cgroup, "tacit/daemon"))
	g.make(p.running, "a child of tacitd runs in %s: it tries what programs do, for tacit status", filepath.Join(p.cfg.Cgroup, "tacit/probe"))
	if p.cfg.Confirm > 0 {
		g.step(stateAdd, "a cgroup and a process beside it that undoes all this unless tacit confirm comes within %s", p.cfg.Confirm)
	}
	return g, nil
}

func (p *plan) ports() (planGroup, error) {
	g, s := planGroup{title: "Ports that other nodes reach"}, p.cfg
	g.make(p.running, "listen on %s, TCP: lanes and enrolment", netip.AddrPortFrom(s.addr, s.LanePort))
	g.make(p.running, "listen on port %d of that interface's other addresses, TCP: by it, the node proves to be there", s.LanePort)
	g.make(p.running, "listen on %s, UDP and TCP: gossip", netip.AddrPortFrom(s.addr, s.GossipPort))
	return g, nil
}

func (p *plan) pins() ([]bpf.Pin, error) {
	return bpf.Pins(bpf.Config{PinDir: p.cfg.BPFDir, Cgroup: p.cfg.Cgroup})
}

func (p *plan) maps() (planGroup, error) {
	g := planGroup{title: "eBPF maps, pinned: they outlive the daemon"}
	if at := bpf.MissingFS(p.cfg.BPFDir); at != "" {
		g.step(stateAdd, "mount a bpffs at %s (mode 0700)", at)
	}
	g.make(exists(p.cfg.BPFDir), "%s (mode 0700)", p.cfg.BPFDir)
	pins, err := p.pins()
	for _, pin := range pins {
		if pin.Hook == "" {
			g.make(pin.Present, "%s", pin.Path)
		}
	}
	return g, err
}

func (p *plan) programs() (planGroup, error) {
	g := planGroup{title: "eBPF programs, attached and their links pinned: they outlive the daemon"}
	pins, err := p.pins()
	for _, pin := range pins {
		text := fmt.Sprintf("%s on %s, pinned as %s", pin.Hook, pin.Where, pin.Path)
		switch {
		case pin.Hook == "":
		case pin.Problem != "":
			g.step(stateUpdate, "%s: attached anew (%s)", text, pin.Problem)
		case pin.Present:
			g.step(stateUpdate, "%s: this version's program takes its place", text)
		default:
			g.step(stateAdd, "%s", text)
		}
	}
	return g, err
}

func (p *plan) listeners() (planGroup, error) {
	g := planGroup{title: "Listeners for what is captured, on loopback alone, each on a free port"}
	hosts := []string{"127.0.0.1"}
	if hasIPv6() {
		hosts = append(hosts, "::1")
	}
	for _, host := range hosts {
		g.make(p.running, "%s, TCP: connections to virtual addresses", host)
	}
	for _, host := range hosts {
		g.make(p.running, "%s, UDP and TCP: name look-ups of other network namespaces", host)
	}
	for _, r := range p.resolvers {
		for _, host := range hosts {
			g.make(p.running, "%s, UDP and TCP: name look-ups that are sent to %s, from %s", host, r, p.cfg.ResolvConf)
		}
	}
	return g, nil
}
