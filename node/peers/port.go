// SPDX-License-Identifier: Apache-2.0

package peers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"tacit/node/config"
	"tacit/redirect/listen"
)

// Port is the lane port, taken and not served yet.
type Port struct{ ln *net.TCPListener }

// Open takes the lane port before a start changes anything on the host, from the daemon
// whose work this one takes over if it has it.
func Open(ctx context.Context, s *config.Settled, from *listen.Inherited) (*Port, error) {
	at := netip.AddrPortFrom(s.Addr, s.LanePort)
	if ln := from.TCP(lanePort); ln != nil && ln.Addr().String() == at.String() {
		return &Port{ln}, nil
	}
	ln, err := listen.Plain(ctx, at)
	if err != nil {
		return nil, PortError("--lane-port", s.LanePort, err)
	}
	return &Port{ln}, nil
}

// Close gives the port back; it is for a start that fails before Peers.Run.
func (p *Port) Close() error { return p.ln.Close() }

func (p *Port) number() uint16 { return uint16(p.ln.Addr().(*net.TCPAddr).Port) }

// PortError says what to do about a port, given by flag, that can't be taken.
func PortError(flag string, port uint16, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%s %d: the port is in use by another program; stop it (ss -lntp) or give another port", flag, port)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%s %d: this host doesn't have the address given by --address: %w", flag, port, err)
	}
	return fmt.Errorf("%s %d: %w", flag, port, err)
}
