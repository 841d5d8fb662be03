// SPDX-License-Identifier: Apache-2.0

package sockdiag

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Senders finds the sockets behind queries, one question each on a netlink socket
// that stays open. It sees the network namespace in which the first question was
// asked, and is safe for concurrent use.
type Senders struct {
	mu sync.Mutex
	q  *querier
}

// CgroupOf returns the ID of the cgroup v2 in which the socket at client was
// created that sends to server, by UDP or TCP. [ErrNoSocket]: there is none any
// more.
func (s *Senders) CgroupOf(udp bool, client, server netip.AddrPort) (uint64, error) {
	client, server = unmap(client), unmap(server)
	r := request{family: unix.AF_INET, udp: udp, states: allStates, local: client, remote: server, cookie: anyCookie}
	if client.Addr().Is6() {
		r.family = unix.AF_INET6
	}
	if udp { // the kernel looks for the socket that receives from the first address what is sent to the second
		r.local, r.remote = server, client
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.q == nil {
		q, err := openQuerier()
		if err != nil {
			return 0, err
		}
		s.q = q
	}
	found, err := s.q.ask(nl.SOCK_DIAG_BY_FAMILY, 0, r)
	if errors.Is(err, unix.ENOENT) || err == nil && len(found) != 1 {
		return 0, ErrNoSocket
	}
	if err != nil {
		err = errors.Join(fmt.Errorf("find the socket with the address %s: %w", client, err), s.q.close())
		s.q = nil // a late answer must not be taken for that of the next question
		return 0, err
	}
	return found[0].cgroup, nil
}
