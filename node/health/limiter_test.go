// SPDX-License-Identifier: Apache-2.0

package health

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func newLog(w *bytes.Buffer) (*slog.Logger, *Limiter) {
	h := slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
	l := NewLimiter(h)
	return slog.New(l), l
}

// TestLimiter: a thousand refusals of one cause are two lines, and nothing of
// another cause waits behind them.
func TestLimiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log, l := newLog(&out)
		for i := range 1000 {
			log.Info("connection refused", "source", "web", "reason", "default", "pid", i)
		}
		log.Info("connection refused", "source", "api", "reason", "default", "pid", 7)
		for i := range 3 {
			log.Warn("not renewed", "err", fmt.Errorf("dial 10.0.0.1:%d: %w", i, errors.New("timeout")))
			log.Debug("said each time")
			log.Warn(fmt.Sprintf("http: Accept error; retrying in %dms", 5<<i))
		}
		<-time.After(LogInterval + time.Second)
		synctest.Wait()
		log.Info("connection refused", "source", "web", "reason", "default", "pid", 1001)
		log.Info("connection refused", "source", "web", "reason", "default", "pid", 1002)
		l.Flush()
		want := `level=INFO msg="connection refused" source=web reason=default pid=0
level=INFO msg="connection refused" source=api reason=default pid=7
level=WARN msg="not renewed" err="dial 10.0.0.1:0: timeout"
level=DEBUG msg="said each time"
level=WARN msg="http: Accept error; retrying in 5ms"
level=DEBUG msg="said each time"
level=DEBUG msg="said each time"
level=INFO msg="connection refused" source=web reason=default pid=999 repeated=999
level=WARN msg="http: Accept error; retrying in 20ms" repeated=2
level=WARN msg="not renewed" err="dial 10.0.0.1:2: timeout" repeated=2
level=INFO msg="connection refused" source=web reason=default pid=1002 repeated=2
`
		if out.String() != want {
			t.Errorf("got\n%s\nwant\n%s", out.String(), want)
		}
	})
}

// TestLimiterForgets: what is no longer repeated passes at once again, and
// many different lines don't take the memory.
func TestLimiterForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log, l := newLog(&out)
		for range 2 {
			log.With("part", "gossip").Info("once")
			<-time.After(2*LogInterval + time.Second)
			synctest.Wait()
		}
		if got := strings.Count(out.String(), "once"); got != 2 {
			t.Errorf("%d lines of 2", got)
		}
		for i := range 2 * maxLines {
			log.Info("many", "name", i)
		}
		if n := len(l.shared.byKey); n > maxLines+1 {
			t.Errorf("%d lines are remembered", n)
		}
		l.Flush()
	})
}
