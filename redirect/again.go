// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"context"
	"net"
	"net/netip"
)

// ListenCaptured opens one of the listeners that [Listen] opens, in place of one that others have closed.
func ListenCaptured(ctx context.Context, v6 bool) (*net.TCPListener, error) {
	return listenTCP(ctx, netip.AddrPortFrom(loopback(v6), 0))
}

// TPROXY says whether the plan captures what other network namespaces send.
func (p Plan) TPROXY() bool { return len(p.chains) > 0 }
