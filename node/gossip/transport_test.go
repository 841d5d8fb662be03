// SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"testing"
)

// TestAcceptStreamsEnds: quietly when the transport is closed, with one line in
// the log when its listener fails.
func TestAcceptStreamsEnds(t *testing.T) {
	for name, lines := range map[string]int{"transport closed": 0, "listener closed": 1} {
		t.Run(name, func(t *testing.T) {
			tcp, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			var log bytes.Buffer
			tr := &transport{tcp: tcp, conns: newConns(member), log: slog.New(slog.NewTextHandler(&log, nil))}
			tr.ctx, tr.cancel = context.WithCancel(t.Context())
			defer tr.cancel()
			if lines == 0 {
				tr.cancel()
			} else {
				_ = tcp.Close()
			}
			tr.acceptStreams()
			if got := bytes.Count(log.Bytes(), []byte("\n")); got != lines {
				t.Errorf("%d lines, want %d: %s", got, lines, log.String())
			}
		})
	}
}
