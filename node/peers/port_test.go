// SPDX-License-Identifier: Apache-2.0

package peers

import (
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"tacit/node/config"
)

func TestOpen(t *testing.T) {
	s := &config.Settled{Addr: netip.MustParseAddr("127.0.0.1")}
	first, err := Open(t.Context(), s, nil)
	must(t, err)
	s.LanePort = first.number()
	number := strconv.Itoa(int(s.LanePort))
	away := *s
	away.Addr = netip.MustParseAddr("192.0.2.1")
	for _, c := range []struct {
		s    *config.Settled
		want string
	}{
		{s, "--lane-port " + number + ": the port is in use by another program; stop it (ss -lntp)"},
		{&away, "--lane-port " + number + ": this host doesn't have the address given by --address"},
	} {
		if _, err := Open(t.Context(), c.s, nil); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
	must(t, first.Close())
	again, err := Open(t.Context(), s, nil)
	must(t, err)
	must(t, again.Close())
}
