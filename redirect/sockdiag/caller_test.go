// SPDX-License-Identifier: Apache-2.0

package sockdiag

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// TestCallerCgroup: clients of each family, before and after they close their half of the connection; after a reset, and
// asked from another network namespace, there is no such socket.
func TestCallerCgroup(t *testing.T) {
	enter(t)
	ln := listen(t, "tcp", "[::]:5432")
	for _, addr := range []string{"127.0.0.1:5432", "[::1]:5432", "[::ffff:127.0.0.1]:5432"} {
		client, accepted := connect(t, ln, addr)
		if got, err := callerOf(t, accepted); err != nil || got != ownCgroup(t) {
			t.Errorf("%s: %d, %v; want %d", addr, got, err, ownCgroup(t))
		}
		must(t, client.CloseWrite())
		if got, err := callerOf(t, accepted); err != nil || got != ownCgroup(t) {
			t.Errorf("%s, half closed: %d, %v; want %d", addr, got, err, ownCgroup(t))
		}
		elsewhere(t, func() {
			if got, err := callerOf(t, accepted); !errors.Is(err, ErrNoSocket) {
				t.Errorf("%s, from another namespace: %d, %v", addr, got, err)
			}
		})
		must(t, client.SetLinger(0))
		must(t, client.Close())
		testhost.Eventually(t, 3*time.Second, "the reset to arrive", func() error {
			if got, err := callerOf(t, accepted); !errors.Is(err, ErrNoSocket) {
				return fmt.Errorf("%s, reset: %d, %v", addr, got, err)
			}
			return nil
		})
	}
}
