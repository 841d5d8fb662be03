// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"context"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// WatchRoutes says on lost when a route of ours or any routing rule was removed, by whomever, and once at the start, when
// nothing can be missed any more. It never blocks on lost, so give it room for one. It returns nil when ctx ends.
func WatchRoutes(ctx context.Context, lost chan<- struct{}) error {
	s, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE)
	if err != nil {
		return fmt.Errorf("watch routes: %w", err)
	}
	defer s.Close()
	defer context.AfterFunc(ctx, s.Close)()
	notify(lost)
	for {
		messages, _, err := s.Receive()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENOBUFS): // more has happened than fits
			notify(lost)
			continue
		case err != nil:
			return fmt.Errorf("watch routes: %w", err)
		}
		for _, m := range messages {
			if m.Header.Type == unix.RTM_DELRULE || m.Header.Type == unix.RTM_DELROUTE && protocolOf(m.Data) == routeProtocol {
				notify(lost)
			}
		}
	}
}

// protocolOf reads a field of struct rtmsg, rtnetlink(7).
func protocolOf(message []byte) byte {
	const at = 5
	if len(message) <= at {
		return 0
	}
	return message[at]
}

// RestoreRoutes adds the plan's routes and rules that are missing, and nothing else: it takes no firewall tool, so that it
// is done at once. It says whether any was missing.
func RestoreRoutes(p Plan) (missing bool, err error) { return restoreRoutes(kernelHost{}, p) }

func restoreRoutes(h host, p Plan) (missing bool, err error) {
	var d difference
	if err := errors.Join(compareRoutes(&d, h, p), compareRules(&d, h, p)); err != nil {
		return false, err
	}
	for _, s := range d.missing {
		if err := s.do(); err != nil {
			return true, fmt.Errorf("%s: %w", s.text, err)
		}
	}
	return len(d.missing) > 0, nil
}
