// SPDX-License-Identifier: Apache-2.0

package usage

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"tacit/node/api"
)

// Upstream reads NAME=PORT or NAME=ADDRESS:PORT.
func Upstream(text string) (api.Upstream, error) {
	name, bind, ok := strings.Cut(text, "=")
	if !ok {
		return api.Upstream{}, fmt.Errorf("want NAME=PORT or NAME=ADDRESS:PORT")
	}
	u := api.Upstream{Destination: api.Name(name)}
	if port, err := strconv.ParseUint(bind, 10, 16); err == nil && port != 0 {
		u.Bind = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(port))
		return u, nil
	}
	var err error
	if u.Bind, err = netip.ParseAddrPort(bind); err != nil || u.Bind.Port() == 0 || !u.Bind.Addr().IsLoopback() {
		return u, fmt.Errorf("%q is neither a port from 1 to 65535 nor a loopback address with such a port", bind)
	}
	return u, nil
}
