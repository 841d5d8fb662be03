// SPDX-License-Identifier: Apache-2.0

package inventory

import "tacit/node/health"

// Keep writes what must survive a restart where it has changed, and reports
// what the last Look found wrong. What the compilers of a View find, their
// caller reports.
func (i *Inventory) Keep() {
	i.mu.Lock()
	defer i.mu.Unlock()
	h := i.conf.Health
	h.Set(health.Services, "", i.defined.err)
	h.Set(health.Files, "", i.defined.problems())
	h.Set(health.FilesOnDisk, "", i.defined.keep())
	h.Replace(health.Held, i.held.waiting)
	h.Set(health.HeldFiles, "", i.held.kept.save(i.held.waits))
	h.Set(health.Places, "", i.places.kept.save(i.places.held))
	h.Set(health.Sessions, "", i.exempt.kept.save(i.exempt.conns))
}
