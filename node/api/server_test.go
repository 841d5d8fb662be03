// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tacit/policy"
)

// backend implements the methods that the tests call; the embedded interfaces panic
// for all others.
type backend struct {
	peer   chan Peer
	change chan IntentionChange
	err    error
}

func (b *backend) whole() Backend {
	return Backend{Host: someHost{}, Nodes: someNodes{nil, b}, Services: someServices{nil, b}, Intentions: someIntentions{nil, b}, Audit: struct{ Audit }{}, Keys: struct{ Keys }{}}
}

type (
	someHost  struct{ Host }
	someNodes struct {
		Nodes
		*backend
	}
	someServices struct {
		Services
		*backend
	}
	someIntentions struct {
		Intentions
		*backend
	}
)

func (b someServices) Run(ctx context.Context, r RunRequest) (*RunResult, error) {
	p, _ := PeerFrom(ctx)
	// The pidfd stays valid while the connection lives.
	if p.PIDFD != nil && unix.PidfdSendSignal(int(p.PIDFD.Fd()), 0, nil, 0) != nil {
		return nil, errors.New("pidfd is no pidfd")
	}
	b.peer <- p
	return &RunResult{Service: r.Service}, nil
}

func (b someIntentions) Change(_ context.Context, r IntentionChange) (*ChangeResult, error) {
	b.change <- r
	return &ChangeResult{Applied: true, Reach: Reach{Counted: Counted{Elapsed: time.Second}}}, nil
}

func (b someNodes) List(context.Context) ([]Node, error) { return nil, b.err }

func (b someServices) List(context.Context) ([]Service, error) {
	return []Service{{Name: "db", Virtual4: netip.MustParseAddr("240.64.0.2")}}, nil
}

// start serves b on a new socket that every user may open, so that refusals are the
// server's, and checks at the end that nothing is left.
func start(t *testing.T, b *backend) (socket string) {
	t.Helper()
	fds, goroutines := openFiles(t), runtime.NumGoroutine()
	dir, err := os.MkdirTemp("", "tacit-api")
	if err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(dir, "run", "s")
	ln, err := Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(socket, 0o666)); err != nil {
		t.Fatal(err)
	}
	srv, done := NewServer(b.whole(), slog.New(slog.NewTextHandler(io.Discard, nil))), make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	t.Cleanup(func() {
		if err := errors.Join(srv.Close(), <-done); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
		if _, err := os.Stat(socket); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the socket stays: %v", err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
		eventually(t, "files and goroutines go away", func() bool {
			return openFiles(t) <= fds && runtime.NumGoroutine() <= goroutines
		})
	})
	return socket
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !ok(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Errorf("%s: not within 5 s", what)
			return
		}
	}
}

func TestPeer(t *testing.T) {
	b := &backend{peer: make(chan Peer, 1)}
	if _, err := NewClient(start(t, b)).Run(t.Context(), RunRequest{Service: "Web"}); err != nil {
		t.Fatal(err)
	}
	p := <-b.peer
	if int(p.PID) != os.Getpid() || int(p.UID) != os.Getuid() || int(p.GID) != os.Getgid() {
		t.Errorf("got %+v", p)
	}
	if p.PIDFD == nil {
		t.Error("no pidfd; kernels from 6.5 on have it")
	}
}

// as runs f on a thread of the user uid, a member of groups.
func as(t *testing.T, uid uint32, groups []uint32, f func()) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		var list *uint32
		if len(groups) > 0 {
			list = &groups[0]
		}
		err := become(uid, len(groups), list)
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatalf("the tests need root: %v", err)
	}
}

// TestOtherUser: whatever the socket's mode, only root and the group are allowed.
func TestOtherUser(t *testing.T) {
	tests := []struct {
		name   string
		uid    uint32
		groups []uint32
		gid    int // of the group tacit
		want   bool
	}{
		{"root", 0, nil, -1, true},
		{"another user, no such group", 65534, nil, -1, false},
		{"another user, not a member", 65534, []uint32{4243}, 4242, false},
		{"another user, a member", 65534, []uint32{4243, 4242}, 4242, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: "", Net: "unix"}) // abstract: has no mode
			if err != nil {
				t.Fatal(err)
			}
			l := &listener{UnixListener: ln, allow: allowed(tt.gid)}
			defer l.Close()
			as(t, tt.uid, tt.groups, func() {
				if c, err := net.Dial("unix", ln.Addr().String()); err != nil {
					t.Error(err)
				} else if err := c.Close(); err != nil {
					t.Error(err)
				}
			})
			c, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if got := c.(*conn); got.allowed != tt.want || got.peer.UID != tt.uid {
				t.Errorf("allowed %v for uid %d, want %v", got.allowed, got.peer.UID, tt.want)
			}
		})
	}
}

func TestOtherUserIsRefused(t *testing.T) {
	socket := start(t, &backend{})
	var answer string
	as(t, 65534, nil, func() { answer = raw(t, socket, "GET /v1/services HTTP/1.0\r\n\r\n") })
	for _, want := range []string{"HTTP/1.0 403 ", `"error":"permission denied"`, `"hint":"run it as root or as a member of the group tacit"`} {
		if !strings.Contains(answer, want) {
			t.Errorf("want %s in %s", want, answer)
		}
	}
	if strings.Contains(answer, "240.64.0.2") {
		t.Error("the answer leaked")
	}
}

// raw sends a request unchanged and returns the whole answer.
func raw(t *testing.T, socket, request string) string {
	t.Helper()
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Error(err)
	}
	_, _ = io.WriteString(c, request) // the server may answer before the end
	answer, _ := io.ReadAll(c)
	return string(answer)
}

// TestRequests lists requests, each with a part of its answer.
func TestRequests(t *testing.T) {
	post := func(path, body string) string {
		return "POST " + path + " HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body
	}
	b := &backend{change: make(chan IntentionChange, 8)}
	socket := start(t, b)
	tests := []struct{ name, request, want string }{
		{"a read", "GET /v1/services HTTP/1.0\r\n\r\n", `[{"name":"db","id":"","virtual4":"240.64.0.2","instances":null}]`},
		{"a change", post("/v1/intentions", `{"source":"Web","destination":"*","action":"deny"}`), `"applied":true`},
		{"a GET never changes", "GET /v1/tokens HTTP/1.0\r\n\r\n", `tacitd doesn't know GET`},
		{"an unknown field", post("/v1/intentions", `{"sauce":"web"}`), `unknown field \"sauce\"`},
		{"two values", post("/v1/intentions", `{"source":"web"}{}`), `more than one JSON value`},
		{"not JSON", post("/v1/run", `service=web`), `can't decode the request`},
		{"no body", post("/v1/run", ``), `can't decode the request: EOF`},
		{"a large body", post("/v1/run", `{"service":"`+strings.Repeat("a", maxBody)+`"}`), `request larger than 256 KiB`},
		{"large headers", "GET /v1/services HTTP/1.0\r\nX: " + strings.Repeat("a", 1<<20) + "\r\n\r\n", `HTTP/1.1 431 `},
		{"a bad name", post("/v1/run", `{"service":"a/b"}`), `"exit":2`},
		{"a bad end", post("/v1/intentions", `{"source":"web-*","destination":"db","action":"deny"}`), `* must stand alone`},
		{"a bad action", post("/v1/intentions", `{"source":"web","destination":"db","action":"drop"}`), `must be allow, deny or delete`},
		{"a star isn't explained", "GET /v1/intentions/explain?source=*&destination=db HTTP/1.0\r\n\r\n", `"error":"source: name`},
		{"a description of two lines", post("/v1/intentions", `{"source":"web","destination":"db","action":"deny","description":"a\nb"}`), `must be one line`},
		{"an unknown path", "GET /v2/ HTTP/1.0\r\n\r\n", `are tacit and tacitd of the same version?`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := raw(t, socket, tt.request); !strings.Contains(got, tt.want) {
				t.Errorf("want %s in %.600s", tt.want, got)
			}
		})
	}
	if c := <-b.change; c.Source != "web" || c.Destination != policy.Any || c.Timeout != DefaultWait || len(b.change) != 0 {
		t.Errorf("got %+v and %d more", c, len(b.change))
	}
}

// TestErrors: the Backend's errors reach the caller with all fields.
func TestErrors(t *testing.T) {
	b := &backend{}
	c := NewClient(start(t, b))
	for _, tt := range []struct{ err, want error }{
		{&Error{Code: CodeRefused, Message: "m", Hint: "h", Nodes: []string{"n"}}, &Error{Code: CodeRefused, Message: "m", Hint: "h", Nodes: []string{"n"}}},
		{&policy.Refusal{Reason: policy.ReasonGrant, Detail: "db"}, &Error{Code: CodeRefused, Reason: policy.ReasonGrant, Message: "refused: grant: db", Hint: policy.ReasonGrant.Explain()}},
		{errors.New("disk full"), &Error{Code: CodeError, Message: "disk full"}},
	} {
		b.err = tt.err
		_, err := c.Nodes(t.Context())
		got, ok := errors.AsType[*Error](err)
		want, _ := errors.AsType[*Error](tt.want)
		if !ok || got.Code != want.Code || got.Message != want.Message || got.Hint != want.Hint || got.Reason != want.Reason || len(got.Nodes) != len(want.Nodes) {
			t.Errorf("got %#v, want %#v", err, tt.want)
		}
	}
}
