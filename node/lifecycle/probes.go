// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"net/netip"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"

	"tacit/bpf"
	"tacit/node/config"
	"tacit/node/definition"
	"tacit/node/definition/folder"
	"tacit/node/secrets"
	"tacit/node/workload"
	"tacit/redirect"
	"tacit/redirect/listen"
)

// probes are what doctor asks a host. None of them leaves anything changed.
type probes struct {
	release     func() (string, error) // of the kernel
	cgroup      func() (root string, err error)
	programs    func() error           // loads the eBPF programs and lets them go
	iptables    func() (string, error) // its version
	sysctls     func() []string        // those in the way
	descriptors func() (uint64, error) // how many one process may open
	listen      func(netip.AddrPort) error
	exists      func(path string) bool
	keys        func() error                   // whether others can read this node's keys
	aside       func() []string                // damaged files that a start kept
	definitions func() []definition.Definition // those of the service files
}

func thisHost(c config.Config) probes {
	return probes{
		release:     kernelRelease,
		cgroup:      func() (string, error) { return hookedRoot(c) },
		programs:    bpf.Probe,
		iptables:    iptablesVersion,
		sysctls:     redirect.SysctlProblems,
		descriptors: descriptorLimit,
		listen:      tryListen,
		exists:      exists,
		keys:        func() error { return secrets.Inspect(c.StateDir) },
		aside:       func() []string { return asideFiles(c.StateDir) },
		definitions: func() []definition.Definition { good, _ := folder.Load(c.ServicesDir); return good },
	}
}

func asideFiles(dir string) (out []string) {
	found, _ := filepath.Glob(filepath.Join(dir, "*.bad-*")) // the pattern is a good one
	for _, path := range found {
		out = append(out, filepath.Base(path))
	}
	return out
}

func kernelRelease() (string, error) {
	var u unix.Utsname
	err := unix.Uname(&u)
	return unix.ByteSliceToString(u.Release[:]), err
}

func hookedRoot(c config.Config) (string, error) {
	root, err := c.Tree()
	if err != nil {
		return "", err
	}
	return root, workload.Check(root)
}

func iptablesVersion() (string, error) {
	out, err := exec.Command("iptables", "--version").Output()
	return string(out), err
}

func descriptorLimit() (uint64, error) {
	var l unix.Rlimit
	err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l)
	return l.Max, err
}

// tryListen binds an address for a moment.
func tryListen(at netip.AddrPort) error {
	ln, err := listen.Plain(context.Background(), at)
	if err != nil {
		return err
	}
	return ln.Close()
}
