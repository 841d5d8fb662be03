// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
)

// Verify reads the maps and names those in which others have changed something
// since they were written. The next Apply puts it right, in the order that
// keeps closed what shall be closed. While nothing is wrong it costs one pass
// over the entries.
func (k *Kernel) Verify() (changed []string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	m := &k.maps
	look := func(name string, e error) {
		if errors.Is(e, errOthers) {
			changed = append(changed, name)
			return
		}
		err = errors.Join(err, e)
	}
	look("exempt_nets", reread(&m.nets))
	look("exempt_ports", reread(&m.exempt))
	look("guards", reread(&m.guards))
	look("interfaces", reread(&m.interfaces))
	look("intentions", reread(&m.intentions))
	look("locals", reread(&m.locals))
	look("names", reread(&m.names))
	look("namespaces", reread(&m.namespaces))
	look("ports", reread(&m.ports))
	look("remotes", reread(&m.remotes))
	look("exempt_peers", reread(&m.exemptPeers))
	look("upstreams", reread(&m.upstreams))
	look("users", reread(&m.users))
	look("workloads", reread(&m.workloads))
	if len(changed) > 0 {
		k.table = nil // compile the intentions, too, once more
	}
	return changed, err
}

var errOthers = errors.New("others have changed it")

// reread makes the mirror hold what the map holds, where that differs.
func reread[K, V comparable](m *mirror[K, V]) error {
	held, same, err := m.table.Check(m.held)
	if err != nil || same {
		return err
	}
	m.held = held
	return errOthers
}
