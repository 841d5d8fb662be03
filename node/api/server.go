// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"tacit/identity"
	"tacit/node/api/flow"
)

// Limits of a request. answerTime allows for the longest wait.
const (
	maxBody    = 256 << 10
	MaxApply   = 32 << 20 // of an ApplyRequest, in bytes: a hundred thousand intentions
	maxHeader  = 16 << 10
	readTime   = 10 * time.Second
	idleTime   = time.Minute
	answerTime = MaxWait + time.Minute
)

// server answers the CLI's requests.
type server struct {
	backend Backend
	log     *slog.Logger
}

// NewServer returns a server for backend. Serve it on a listener from Listen: on any
// other, every caller is refused, because its peer is unknown.
func NewServer(backend Backend, log *slog.Logger) *http.Server {
	s := &server{backend: backend, log: log}
	return &http.Server{
		Handler: s.guard(s.routes()),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if c, ok := c.(*conn); ok {
				ctx = context.WithValue(ctx, callerKey{}, c)
			}
			return ctx
		},
		ReadTimeout: readTime, ReadHeaderTimeout: readTime, WriteTimeout: answerTime, IdleTimeout: idleTime,
		MaxHeaderBytes: maxHeader,
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}

// Serve answers on a listener until ctx ends; what names the listener.
func Serve(ctx context.Context, what string, srv *http.Server, ln net.Listener) error {
	stop := context.AfterFunc(ctx, func() {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if srv.Shutdown(last) != nil {
			_ = srv.Close()
		}
	})
	defer stop()
	if err := srv.Serve(ln); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

type callerKey struct{}

// guard refuses callers that aren't allowed, whatever the socket's mode, and gives
// the handlers the peer.
func (s *server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, ok := r.Context().Value(callerKey{}).(*conn)
		if !ok || !c.allowed {
			s.log.Warn("caller refused", "uid", peerUID(c), "path", r.URL.Path)
			writeError(w, Refused("run it as root or as a member of the group "+Group, "permission denied"))
			return
		}
		next.ServeHTTP(w, r.WithContext(WithPeer(r.Context(), c.peer)))
	})
}

func peerUID(c *conn) any {
	if c == nil {
		return "unknown"
	}
	return c.peer.UID
}

func (s *server) routes() http.Handler {
	b, mux := s.backend, http.NewServeMux()
	mux.Handle("GET /v1/status", get(func(r *http.Request) (any, error) { return b.Host.Status(r.Context()) }))
	mux.Handle("GET /v1/resolve", get(func(r *http.Request) (any, error) { return b.Host.Resolve(r.Context(), r.FormValue("name")) }))
	mux.Handle("GET /v1/flows", get(func(r *http.Request) (any, error) { return flows(r, b.Host) }))
	mux.Handle("GET /v1/audit", get(func(r *http.Request) (any, error) { return audit(r, b.Audit) }))
	mux.Handle("GET /v1/nodes", get(func(r *http.Request) (any, error) { return b.Nodes.List(r.Context()) }))
	mux.Handle("GET /v1/node", named("node", identity.ParseName, func(ctx context.Context, n Name) (any, error) { return b.Nodes.Show(ctx, n) }))
	mux.Handle("GET /v1/keys", get(func(r *http.Request) (any, error) { return b.Keys.List(r.Context()) }))
	mux.Handle("GET /v1/services", get(func(r *http.Request) (any, error) { return b.Services.List(r.Context()) }))
	mux.Handle("GET /v1/service", named("service", identity.ParseSource, func(ctx context.Context, n Name) (any, error) { return b.Services.Show(ctx, n) }))
	mux.Handle("GET /v1/intentions", get(func(r *http.Request) (any, error) { return b.Intentions.List(r.Context()) }))
	mux.Handle("GET /v1/intentions/check", pair(func(ctx context.Context, src, dst Name) (any, error) { return b.Intentions.Check(ctx, src, dst) }))
	mux.Handle("GET /v1/intentions/explain", pair(func(ctx context.Context, src, dst Name) (any, error) { return b.Intentions.Explain(ctx, src, dst) }))

	mux.Handle("POST /v1/confirm", post(b.Host.Confirm))
	mux.Handle("POST /v1/node/grant", post(b.Nodes.Grant))
	mux.Handle("POST /v1/operator/offer", post(b.Keys.Offer))
	mux.Handle("POST /v1/operator/add", post(b.Keys.AddOperator))
	mux.Handle("POST /v1/revoke", post(b.Keys.Revoke))
	mux.Handle("POST /v1/ca/export-root", post(b.Keys.ExportRoot))
	mux.Handle("POST /v1/ca/drop-root", post(b.Keys.DropRoot))
	mux.Handle("POST /v1/tokens", post(b.Nodes.CreateToken))
	mux.Handle("POST /v1/service/register", post(b.Services.Register))
	mux.Handle("POST /v1/service/deregister", post(b.Services.Deregister))
	mux.Handle("POST /v1/service/check", post(b.Services.Report))
	mux.Handle("POST /v1/run", post(b.Services.Run))
	mux.Handle("POST /v1/intentions", post(b.Intentions.Change))
	mux.Handle("POST /v1/apply", post(b.Intentions.Apply))
	if b.Metrics != nil {
		mux.Handle("GET /metrics", b.Metrics)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, Failed("are tacit and tacitd of the same version?", "tacitd doesn't know %s %.80q", r.Method, r.URL.Path))
	})
	return mux
}

func get(do func(*http.Request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, err := do(r)
		write(w, answer, err)
	})
}

func flows(r *http.Request, h Host) (any, error) {
	q, err := flow.Parse(r.URL.Query())
	if err != nil {
		return nil, err
	}
	return h.Flows(r.Context(), q)
}

func audit(r *http.Request, a Audit) (any, error) {
	seq, err := after(r)
	if err != nil {
		return nil, err
	}
	return a.Changes(r.Context(), seq)
}

// after is the number of the last entry that the caller has.
func after(r *http.Request) (uint64, error) {
	text := r.FormValue("after")
	if text == "" {
		return 0, nil
	}
	seq, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, Failed("", "after %.40q: must be a number", text)
	}
	return seq, nil
}

func named(what string, parse func(string) (Name, error), do func(context.Context, Name) (any, error)) http.Handler {
	return get(func(r *http.Request) (any, error) {
		name := Name(r.FormValue("name"))
		if err := folded(what, &name, parse); err != nil {
			return nil, err
		}
		return do(r.Context(), name)
	})
}

func pair(do func(ctx context.Context, source, destination Name) (any, error)) http.Handler {
	return get(func(r *http.Request) (any, error) {
		src, dst := Name(r.FormValue("source")), Name(r.FormValue("destination"))
		if err := first(foldSource("source", &src), fold("destination", &dst)); err != nil {
			return nil, err
		}
		return do(r.Context(), src, dst)
	})
}

// request is a request that can check itself.
type request[Q any] interface {
	*Q
	check() error
}

func post[Q, A any, P request[Q]](do func(context.Context, Q) (A, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q Q
		err := readBody(w, r, &q)
		if err == nil {
			err = P(&q).check()
		}
		if err != nil {
			writeError(w, err)
			return
		}
		answer, err := do(r.Context(), q)
		write(w, answer, err)
	})
}

// readBody decodes exactly one JSON value without unknown fields.
func readBody(w http.ResponseWriter, r *http.Request, into any) error {
	limit := int64(maxBody)
	if _, many := into.(*ApplyRequest); many {
		limit = MaxApply
	}
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, limit))
	dec.DisallowUnknownFields()
	err := dec.Decode(into)
	if err == nil {
		if _, more := dec.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("more than one JSON value")
		}
	}
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return Failed("", "request larger than %d KiB", limit>>10)
	}
	if err != nil {
		return Failed("are tacit and tacitd of the same version?", "can't decode the request: %v", err)
	}
	return nil
}

func write(w http.ResponseWriter, answer any, err error) {
	if err != nil {
		writeError(w, err)
		return
	}
	writeJSON(w, http.StatusOK, answer)
}

func writeError(w http.ResponseWriter, err error) {
	e := AsError(err)
	status := http.StatusBadRequest
	if e.Code == CodeRefused {
		status = http.StatusForbidden
	}
	writeJSON(w, status, e)
}

// writeJSON ignores write errors: the caller has disconnected.
func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		status = http.StatusInternalServerError
		body, _ = json.Marshal(Failed("", "can't encode the answer: %v", err))
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}
