// SPDX-License-Identifier: Apache-2.0

package testhost

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Mesh is a Net with nodes: hosts that run tacitd and are members of one mesh.
type Mesh struct {
	*Net
	Nodes []*Host // in the order in which they joined; the first holds the operator key
}

// MeshOptions say what NewMesh starts. The zero value is one node without
// further flags.
type MeshOptions struct {
	Nodes   int         // how many; 0 means 1. They are called host1, host2, …
	Grants  []string    // services that the nodes which join may run
	Flags   []string    // of every daemon
	First   []string    // further flags of the first daemon
	Prepare func(*Mesh) // called when the hosts exist and no daemon runs yet
}

// NewMesh makes hosts, starts tacitd on each and waits until all are alive. The
// first one bootstraps the mesh, the others join it with tokens.
func NewMesh(t testing.TB, o MeshOptions) *Mesh {
	t.Helper()
	m := &Mesh{Net: NewNet(t)}
	for i := range max(o.Nodes, 1) {
		m.Nodes = append(m.Nodes, m.Host(t, fmt.Sprintf("host%d", i+1)))
	}
	if o.Prepare != nil {
		o.Prepare(m)
	}
	first := m.Nodes[0]
	first.Daemon(t, append(append([]string{"--bootstrap"}, o.Flags...), o.First...)...)
	for _, h := range m.Nodes[1:] {
		h.Join(t, first, o.Grants, o.Flags...)
	}
	Eventually(t, 10*time.Second, "all nodes alive", func() error {
		out := first.Tacit(t, "nodes", "--json")
		if alive := strings.Count(out, `"alive": true`); alive != len(m.Nodes) {
			return fmt.Errorf("%d of %d alive: %s", alive, len(m.Nodes), out)
		}
		return nil
	})
	return m
}

// Join adds a new host to the mesh; grants are the services that it may run.
func (m *Mesh) Join(t testing.TB, name string, grants ...string) *Host {
	t.Helper()
	h := m.Host(t, name)
	h.Join(t, m.Nodes[0], grants)
	m.Nodes = append(m.Nodes, h)
	return h
}

// Join starts the host's daemon with a token that the operator's node creates.
func (h *Host) Join(t testing.TB, operator *Host, grants []string, flags ...string) *Daemon {
	t.Helper()
	create := []string{"token", "create", "--node", h.Name}
	for _, service := range grants {
		create = append(create, "--service", service)
	}
	token := filepath.Join(h.Dir, "token")
	WriteFile(t, token, operator.Tacit(t, create...))
	return h.Daemon(t, append([]string{"--join", operator.Addr.String(), "--token-file", token}, flags...)...)
}

// logTails are the last lines of every daemon that was started on the net.
func (n *Net) logTails(lines int) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out strings.Builder
	for _, h := range n.hosts {
		h.mu.Lock()
		d := h.daemon
		h.mu.Unlock()
		if d != nil {
			fmt.Fprintf(&out, "--- end of the log of tacitd on %s:\n%s\n", h.Name, tail(d.Output(), lines))
		}
	}
	return out.String()
}
