// SPDX-License-Identifier: Apache-2.0

package reality

import (
	"strings"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// endings: where a daemon is killed in the middle of an answer, the client is
// told that it isn't complete: by a reset, not an end of file, which is the only
// sign of a complete answer in many protocols.
func (f *fixture) endings(t *testing.T) {
	web := software()[2]
	for _, c := range []struct {
		name string
		node *testhost.Host
	}{
		{"daemon of the service killed", f.here},
		{"daemon of the caller killed", f.remote},
	} {
		t.Run(c.name, func(t *testing.T) {
			session := f.remote.StartAs(t, caller, "bash", "-c", `exec 3<>/dev/tcp/web/80 &&
				printf 'GET /slow HTTP/1.0\r\n\r\n' >&3 && exec cat <&3 >$0`, f.remote.Dir+"/slow")
			f.connected(t, web)
			c.node.Kill(t)
			exit := session.Wait(t, 10*time.Second)
			if exit == 0 || !strings.Contains(session.Output(), "Connection reset by peer") {
				t.Errorf("cat: exit %d, want 1 and a reset: %s", exit, session.Output())
			}
		})
		c.node.Daemon(t) // which ends with the whole test
		testhost.Eventually(t, 20*time.Second, "web answers again", func() error {
			if out, exit := f.remote.RunAs(t, caller, "sh", "-c", web.call); exit != 0 {
				return errText(out)
			}
			return nil
		})
	}
}
