// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// reloads reads the files again each time that SIGHUP asks for it.
func (n *Node) reloads(ctx context.Context) error {
	for count := 1; ; count++ {
		select {
		case <-ctx.Done():
			return nil
		case <-n.cfg.Reload.Asked:
			n.reload(count)
		}
	}
}

// reload reads config and service files, and returns when they are in force.
func (n *Node) reload(count int) {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // never fails (clock_gettime(2))
	_, _ = daemon.SdNotify(false, fmt.Sprintf("%s\nMONOTONIC_USEC=%d", daemon.SdNotifyReloading, now.Nano()/1000))
	n.cfg.Reload.Config(n.log)
	n.inventory.Reload()
	n.loop.Settle()
	n.log.Info("reloaded", "count", count)
	_, _ = daemon.SdNotify(false, daemon.SdNotifyReady)
}
