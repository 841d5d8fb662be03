// SPDX-License-Identifier: Apache-2.0

package testhost

import (
	"os"
	"path/filepath"
)

// Bin is the path of tacitd, tacit or probe: the one in the folder TACIT_BIN,
// or, where there is none, one built from this tree, once for each Net.
func (h *Host) Bin(name string) string { return h.net.bin(name) }

func (n *Net) bin(name string) string {
	if path := filepath.Join(os.Getenv("TACIT_BIN"), name); filepath.IsAbs(path) {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if path, ok := n.bins[name]; ok {
		return path
	}
	pkg := "tacit/cmd/" + name
	if name == "probe" {
		pkg = "tacit/internal/testhost/probe"
	}
	path := filepath.Join(n.dir, "bin", name)
	Must(n.t, command("", "go", "build", "-buildvcs=false", "-o", path, pkg))
	n.bins[name] = path
	return path
}
