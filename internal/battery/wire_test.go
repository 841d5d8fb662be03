// SPDX-License-Identifier: Apache-2.0

package battery

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"tacit/internal/testhost"
)

const canaryPrefix = "CANARY."

// wire is a capture of every frame between hosts.
type wire struct {
	*testhost.Wire
	outside *testhost.Host // its own packets are not the mesh's
}

func record(t *testing.T, net *testhost.Net, outside *testhost.Host) *wire {
	t.Helper()
	return &wire{net.Record(t), outside}
}

var canaries = regexp.MustCompile(regexp.QuoteMeta(canaryPrefix) + `\d+\.`)

// leaked are the canaries captured since the last call.
func (w *wire) leaked(t *testing.T) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	for _, canary := range canaries.FindAll(w.Recorded(t), -1) {
		found[string(canary)] = true
	}
	return found
}

// check fails the test where a canary was captured after the last row was judged,
// or, since the start, a packet for a virtual address that no row sent on purpose:
// rows do so from ports 20000 to 29999 and from outside.
func (w *wire) check(t *testing.T) {
	t.Helper()
	if found := w.leaked(t); len(found) > 0 {
		t.Errorf("canaries were on the wire in plain text: %v", found)
	}
	frames := w.Frames(t, fmt.Sprintf("(ip or ip6) and (net 240.64.0.0/12 or net fd7a:ac17::/32) and not (portrange 20000-29999 or host %s or host %s)",
		w.outside.Addr, w.outside.Addr6))
	if len(frames) > 0 {
		t.Errorf("packets for virtual addresses were on the wire:\n%s", strings.Join(frames, "\n"))
	}
}
