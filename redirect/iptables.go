// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/coreos/go-iptables/iptables"
)

// lockTimeout is how many seconds iptables waits for another one to finish.
const lockTimeout = 10

// kernelTables is one family's iptables on this host: the first iptables or ip6tables in PATH. Which backend it uses, nft or
// legacy, is the host's choice; rules of others may be in either.
type kernelTables struct {
	*iptables.IPTables
	// registered are the tables that this network namespace has with the legacy backend; nil with nft.
	registered []string
}

// holds says whether a table exists. Reading one that doesn't exist creates it, and its hooks, with the legacy backend;
// with nft it creates nothing.
func (t kernelTables) holds(table string) bool {
	return t.registered == nil || slices.Contains(t.registered, table)
}

func (kernelHost) tables(v6 bool) (tables, error) {
	program, proto, list := "iptables", iptables.ProtocolIPv4, "ip_tables_names"
	if v6 {
		program, proto, list = "ip6tables", iptables.ProtocolIPv6, "ip6_tables_names"
	}
	version, err := exec.Command(program, "--version").Output()
	if errors.Is(err, exec.ErrNotFound) {
		return nil, ErrNoIptables
	}
	if err != nil {
		return nil, fmt.Errorf("ask %s for its version: %w", program, err)
	}
	t, err := iptables.New(iptables.IPFamily(proto), iptables.Timeout(lockTimeout))
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	out := kernelTables{IPTables: t}
	if !bytes.Contains(version, []byte("nf_tables")) {
		names, _ := os.ReadFile("/proc/thread-self/net/" + list) // the file is missing while the module isn't loaded: no tables
		out.registered = append([]string{""}, strings.Fields(string(names))...)
	}
	return out, nil
}

// rules lists a chain. iptables exits with 1 if there is no such chain, and with 3 (legacy) or 1 if the kernel has no such
// table, so that nothing of ours can be in it. 4 is an error: no permission, or another iptables held the lock too long.
func (t kernelTables) rules(table, chain string) (list []string, found bool, err error) {
	lines, err := t.List(table, chain)
	var e *iptables.Error
	if errors.As(err, &e) && slices.Contains([]int{1, 3}, e.ExitStatus()) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("list the chain %s of the %s table: %w", chain, table, err)
	}
	for _, line := range lines {
		if rule, ok := strings.CutPrefix(line, "-A "+chain+" "); ok {
			list = append(list, strings.TrimSpace(rule))
		}
	}
	return list, true, nil
}
