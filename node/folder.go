// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"tacit/node/definition"
)

// setFolder is what the service files said last when they were good: a file
// that is bad when the daemon starts must not open its service's port.
const setFolder = "service-files"

// openFolder reads the service files before anything is written to the kernel.
func (n *Node) openFolder() error {
	var err error
	if n.folder, err = definition.NewFolder(n.cfg.ServicesDir); err != nil {
		return err
	}
	text, err := n.store.Get(setFolder)
	if err != nil {
		return err
	}
	good := map[string][]definition.Definition{}
	if len(text) > 0 {
		if err := json.Unmarshal(text, &good); err != nil {
			return fmt.Errorf("state: service files: %w", err)
		}
	}
	n.folder.Remember(good)
	if err := errors.Join(n.loadSessions(), n.loadPresence()); err != nil {
		return err
	}
	for _, d := range n.folder.Definitions() { // as they were in force
		if _, known := n.sessions.held[heldKey(d)]; !known {
			n.sessions.held[heldKey(d)] = false
		}
	}
	n.reloadFolder()
	return nil
}

// watchFolder reads service files again when they change.
func (n *Node) watchFolder(ctx context.Context) error {
	return n.folder.Watch(ctx, func() {
		n.reloadFolder()
		n.nudge()
	})
}

func (n *Node) reloadFolder() {
	_, bad := n.folder.Reload()
	var errs []error
	for _, p := range bad {
		n.log.Error("service file refused, its last good version stays in force", "err", p)
		errs = append(errs, p)
	}
	n.problems.set("service files", errors.Join(errs...))
	n.problems.set("service files on disk", n.keepFolder())
}

// keepFolder writes what is good now, if that has changed.
func (n *Node) keepFolder() error {
	text, err := json.Marshal(n.folder.Good())
	if err != nil {
		return err
	}
	old, err := n.store.Get(setFolder)
	if err != nil || bytes.Equal(old, text) {
		return err
	}
	return n.store.Set(setFolder, text)
}
