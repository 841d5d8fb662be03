// SPDX-License-Identifier: Apache-2.0

package soak

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// TestKilledFirstStart kills a daemon at many moments of its very first start. The
// same command must then succeed, and cleanup must leave nothing.
func TestKilledFirstStart(t *testing.T) {
	net := testhost.NewNet(t)
	steps, broken, killed := size(4, 40), 0, 0
	stop := progress(t, func() string { return fmt.Sprintf("%d of %d", killed, steps) })
	for ; killed < steps; killed++ {
		h := net.Host(t, fmt.Sprintf("first%d", killed))
		empty := h.Leaks(t)
		at := time.Duration(killed+1) * 600 * time.Millisecond / time.Duration(steps)
		p := h.Start(t, "init", h.Bin("tacitd"), append(h.Flags(), "--bootstrap", "--log-level", "warn")...)
		after(at)
		p.Signal(syscall.SIGKILL)
		<-p.Ended()
		if err := again(t, h); err != nil {
			broken++
			t.Logf("killed after %s: %v\nits log: %s\nits files: %s", at, err, p.Output(), files(h.State))
		}
		if out, exit := h.Tacitd(t, "cleanup"); exit != 0 {
			t.Errorf("cleanup: exit %d, %s", exit, out)
		}
		empty()
	}
	stop()
	zero(t, fmt.Sprintf("first start: of %d killed, those after which the next start fails", steps), broken)
}

// again starts the daemon with the same command, waits until it is healthy and
// stops it.
func again(t *testing.T, h *testhost.Host) error {
	t.Helper()
	p := h.Start(t, "init", h.Bin("tacitd"), append(h.Flags(), "--bootstrap", "--log-level", "warn")...)
	defer func() { p.Signal(syscall.SIGTERM); p.Wait(t, 20*time.Second) }()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); after(50 * time.Millisecond) {
		if out, exit := h.TryTacit(t, "status"); exit == 0 {
			return nil
		} else if exit == 1 {
			return fmt.Errorf("not healthy: %s", out)
		}
		select {
		case <-p.Ended():
			return fmt.Errorf("ended: %s", p.Output())
		default:
		}
	}
	return fmt.Errorf("no answer within 20 s: %s", p.Output())
}

func files(dir string) []string {
	list, _ := os.ReadDir(dir)
	var out []string
	for _, e := range list {
		out = append(out, filepath.Join(dir, e.Name()))
	}
	return out
}
