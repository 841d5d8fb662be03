// SPDX-License-Identifier: Apache-2.0

package node

import (
	"encoding/json"
	"sync"
	"time"

	"tacit/identity"
)

// heardFor is how long a spoken revision counts: longer than memberlist needs
// to bring the metadata that says the same.
const heardFor = time.Minute

// revision is what a node's kernel maps hold.
type revision struct {
	Digest   string `json:"d"` // of the intentions
	Revision uint64 `json:"r"`
}

// spoken is a revision as it is broadcast beside the metadata. memberlist's
// queue can drop one of two metadata updates of the same length (its ids begin
// again while a message is queued), and then only the next push/pull, up to
// 15 s later, tells; `--wait` must not wait for that.
type spoken struct {
	Node identity.Name `json:"node"`
	revision
}

// heard is what other nodes said last. It is a hint, as all liveness is.
type heard struct {
	mu  sync.Mutex
	all map[identity.Name]hearing
}

type hearing struct {
	revision
	at time.Time
}

// take reads a broadcast; false: it is none of this kind. Only members are
// remembered, so that nobody can fill the memory with names.
func (h *heard) take(payload []byte, member func(identity.Name) bool) bool {
	var s spoken
	if len(payload) == 0 || payload[0] != '{' || json.Unmarshal(payload, &s) != nil {
		return false
	}
	if !member(s.Node) {
		return true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.all == nil {
		h.all = map[identity.Name]hearing{}
	}
	if old, ok := h.all[s.Node]; !ok || s.Revision >= old.Revision {
		h.all[s.Node] = hearing{s.revision, time.Now()}
	}
	return true
}

// newer is what the node said, where that is newer than its metadata.
func (h *heard) newer(name identity.Name, meta revision) revision {
	h.mu.Lock()
	defer h.mu.Unlock()
	if said, ok := h.all[name]; ok && said.Revision > meta.Revision && time.Since(said.at) <= heardFor {
		return said.revision
	}
	return meta
}
