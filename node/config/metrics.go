// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"net/netip"
)

// MetricsSocket is the value of Config.Metrics that has them served on the CLI's socket.
const MetricsSocket = "unix"

// metricsAt is the address of Config.Metrics, none for "" and MetricsSocket.
func (c Config) metricsAt() (at netip.AddrPort, err error) {
	if c.Metrics == "" || c.Metrics == MetricsSocket {
		return at, nil
	}
	at, err = netip.ParseAddrPort(c.Metrics)
	if err != nil || at.Port() == 0 {
		return at, fmt.Errorf("--metrics %.64q: give a loopback address and port, such as 127.0.0.1:9464, or unix", c.Metrics)
	}
	if !at.Addr().Unmap().IsLoopback() || at.Addr().Zone() != "" {
		return at, fmt.Errorf("--metrics %s: not a loopback address: metrics name services and nodes, and are sent in clear to whoever asks; have an agent on this host fetch them", at)
	}
	return at, nil
}
