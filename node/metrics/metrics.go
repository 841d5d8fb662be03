// SPDX-License-Identifier: Apache-2.0

// Package metrics tells Prometheus what the daemon's parts have counted. It reads the
// answers that the CLI gets, when it is asked. It must not count anything itself, so that a
// connection costs nothing more, nor be reached from other hosts.
package metrics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"

	"tacit/identity"
	"tacit/node/api"
	"tacit/node/api/flow"
	"tacit/node/config"
	"tacit/policy/kernel"
	"tacit/redirect/listen"
	"tacit/tproxy"
)

const (
	readTime  = 5 * time.Second
	writeTime = 30 * time.Second
	maxHeader = 16 << 10

	// Every local user may ask on loopback, and must not take the daemon's time or
	// descriptors away.
	atOnce = 2  // scrapes
	places = 16 // connections
)

// Sources are where the figures come from.
type Sources struct {
	Status func(context.Context) (*api.Status, error)
	Nodes  func(context.Context) ([]api.Node, error)
	Totals func() (flow.Sums, error)
	Live   func() []tproxy.Flow
	Stalls func() uint64
	Room   func(sources []identity.Name) ([]kernel.Room, error)
}

// Exporter serves metrics where the settings say, or nowhere.
type Exporter struct {
	log      *slog.Logger
	socket   *net.TCPListener
	port     net.Listener // of socket, with few places; nil: none
	onSocket bool         // on the CLI's socket
	handler  http.Handler
}

// Open opens the port that the settings ask for, or takes it from the daemon whose work
// this one takes over.
func Open(ctx context.Context, s *config.Settled, from *listen.Inherited) (_ *Exporter, err error) {
	e := &Exporter{log: s.Log, onSocket: s.Metrics == config.MetricsSocket}
	if !s.MetricsAt.IsValid() {
		return e, nil
	}
	if ln := from.TCP(socketName); ln != nil && ln.Addr().String() == s.MetricsAt.String() {
		e.socket = ln
	} else if e.socket, err = listen.Plain(ctx, s.MetricsAt); err != nil {
		return nil, fmt.Errorf("--metrics: %w", err)
	}
	e.port = netutil.LimitListener(e.socket, places)
	return e, nil
}

const socketName = "metrics"

// Sockets is the port's, by the name under which another daemon finds it.
func (e *Exporter) Sockets() map[string]syscall.Conn {
	if e.port == nil {
		return nil
	}
	return map[string]syscall.Conn{socketName: e.socket}
}

// Attach says where the figures come from. It returns what answers at GET /metrics on
// the CLI's socket, nil where metrics aren't served there.
func (e *Exporter) Attach(from Sources) http.Handler {
	if e.port == nil && !e.onSocket {
		return nil
	}
	e.handler = e.handlerOf(newCollector(from))
	if e.onSocket {
		return e.handler
	}
	return nil
}

func (e *Exporter) handlerOf(c prometheus.Collector) http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(c, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{MaxRequestsInFlight: atOnce, DisableCompression: true, // it never leaves the host
		ErrorLog: slog.NewLogLogger(e.log.Handler(), slog.LevelWarn)})
}

// Run answers at the port, if there is one, until ctx ends.
func (e *Exporter) Run(ctx context.Context) error {
	if e.port == nil {
		return nil
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", e.handler)
	srv := &http.Server{Handler: mux, ReadTimeout: readTime, WriteTimeout: writeTime, IdleTimeout: time.Minute, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(e.log.Handler(), slog.LevelDebug)}
	return api.Serve(ctx, "--metrics", srv, e.port)
}

// Close closes the port.
func (e *Exporter) Close() error {
	if e.port == nil {
		return nil
	}
	if err := e.port.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}
