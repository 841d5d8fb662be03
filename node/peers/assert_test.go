// SPDX-License-Identifier: Apache-2.0

package peers

import (
	"tacit/node/health"
	"tacit/node/store"
	"tacit/policy/ledger"
	"tacit/tproxy"
)

// What a daemon gives to Peers.
var (
	_ Lanes  = (*tproxy.Proxy)(nil)
	_ Roll   = (*ledger.View)(nil)
	_ Store  = (*store.Store)(nil)
	_ Health = (*health.Board)(nil)
)
