// SPDX-License-Identifier: Apache-2.0

package checks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"tacit/identity"
	"tacit/node/definition"
	"tacit/redirect/netns"
)

// once runs the single check of a service, whose listener is at to.
func once(t *testing.T, to, block string) (status, output string) {
	t.Helper()
	m := newManager(to, new(int))
	m.Set([]definition.Definition{define(t, "web", block)})
	c := m.checks[0]
	ctx, cancel := context.WithTimeout(t.Context(), c.Timeout)
	defer cancel()
	return m.run(ctx, c)
}

// expect compares with a text in which PORT is the server's port.
func expect(t *testing.T, to, block, want string) {
	t.Helper()
	port := netip.MustParseAddrPort(to).Port()
	status, output := once(t, to, strings.ReplaceAll(block, "PORT", fmt.Sprint(port)))
	got := strings.ReplaceAll(status+" "+output, fmt.Sprint(port), "PORT")
	if !strings.HasPrefix(got, want) {
		t.Errorf("%s:\ngot  %q\nwant %q", block, got, want)
	}
}

// listen is a server that calls talk with each connection.
func listen(t *testing.T, talk func(net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { talk(conn); _ = conn.Close() }()
		}
	}()
	return ln.Addr().String()
}

func silent(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

func closed(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func TestTCP(t *testing.T) {
	open := listen(t, silent)
	expect(t, open, `check { tcp = "" interval = "1s" }`, "passing 127.0.0.1:PORT: connected")
	expect(t, open, `check { tcp = "localhost:PORT" interval = "1s" }`, "passing 127.0.0.1:PORT: connected")
	expect(t, open, `check { tcp = "127.0.0.1:PORT" interval = "1s" }`, "passing 127.0.0.1:PORT: connected")
	shut := closed(t)
	expect(t, shut, `check { tcp = "" interval = "1s" }`, "critical dial tcp 127.0.0.1:PORT: connect: connection refused")
	expect(t, shut, `check { tcp = "localhost:PORT" interval = "1s" }`, "critical dial tcp 127.0.0.1:PORT: connect: connection refused; dial tcp [::1]:PORT: connect: ")
}

// TestOwnPort: a check of the service's own port goes where the instance
// listens, whatever it says, and only there is the socket tagged.
func TestOwnPort(t *testing.T) {
	open := listen(t, silent)
	for block, want := range map[string]string{
		`check { tcp = "" interval = "1s" }`:                      "passing web",
		`check { tcp = "localhost:80" interval = "1s" }`:          "passing web",
		fmt.Sprintf(`check { tcp = "%s" interval = "1s" }`, open): "passing ",
	} {
		m := newManager(open, new(int))
		tagged := ""
		m.conf.Tag = func(_ int, service identity.Name) error { tagged = string(service); return nil }
		m.Set([]definition.Definition{define(t, "web", block)})
		m.checks[0].port = 80
		if strings.Contains(want, "web") {
			m.checks[0].port = netip.MustParseAddrPort(open).Port()
			m.checks[0].Target = strings.ReplaceAll(m.checks[0].Target, ":80", fmt.Sprintf(":%d", m.checks[0].port))
		}
		status, output := m.run(t.Context(), m.checks[0])
		if got := status + " " + tagged; got != want {
			t.Errorf("%s: %s, %s", block, got, output)
		}
	}
	m := newManager(open, new(int))
	m.conf.Target = func(string) ([]netip.AddrPort, netns.Namespace, error) {
		return nil, netns.Namespace{}, errors.New("held by another program")
	}
	m.Set([]definition.Definition{define(t, "web", `check { tcp = "" interval = "1s" }`)})
	if status, output := m.run(t.Context(), m.checks[0]); status != "critical" || output != "held by another program" {
		t.Error(status, output)
	}
}

// TestProxyProtocol: an instance that expects the PROXY protocol gets the header of a
// connection that is for nobody else, before the check's own bytes; other ports of it don't.
func TestProxyProtocol(t *testing.T) {
	got := make(chan string, 1)
	open := listen(t, func(c net.Conn) {
		buf := make([]byte, 20)
		_, _ = io.ReadFull(c, buf)
		got <- string(buf)
	})
	port := netip.MustParseAddrPort(open).Port()
	for own, want := range map[uint16]string{port: "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00GET ", port + 1: "GET / HTTP/1.1\r\nHost"} {
		m := newManager(open, new(int))
		d := define(t, "web", fmt.Sprintf(`check { http = "http://localhost:%d/" interval = "1s" }`, port))
		d.Port, d.ClientAddress = own, definition.ClientProxyProtocol
		m.Set([]definition.Definition{d})
		_, _ = m.run(t.Context(), m.checks[0])
		if text := <-got; text != want {
			t.Errorf("the program read %q, want %q", text, want)
		}
	}
}

func TestHTTP(t *testing.T) {
	mux := http.NewServeMux()
	for _, code := range []int{200, 204, 299, 301, 404, 429, 500} {
		mux.HandleFunc(fmt.Sprintf("/%d", code), func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			if code != 204 {
				_, _ = io.WriteString(w, "body")
			}
		})
	}
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(w, "%s %s %s %s %s", r.Method, r.Host, r.Header["X-Probe"], r.UserAgent(), body)
	})
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/200", http.StatusFound) })
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://example.com/200", http.StatusFound)
	})
	mux.HandleFunc("/round", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/round", http.StatusFound) })
	mux.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			_, _ = w.Write(make([]byte, 64<<10))
		}
	})
	mux.HandleFunc("/slow", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	to := srv.Listener.Addr().String()
	for path, want := range map[string]string{
		"/200": "passing body\nGET http://127.0.0.1:PORT/200: 200 OK", "/204": "passing GET http://127.0.0.1:PORT/204: 204 No Content",
		"/299": "passing ", "/301": "critical ", "/404": "critical body\nGET http://127.0.0.1:PORT/404: 404 Not Found",
		"/429": "warning body\nGET http://127.0.0.1:PORT/429: 429 Too Many Requests", "/500": "critical ",
		"/moved": "passing ", "/away": "critical <a href=\"http://example.com/200\">Found</a>.\nGET http://127.0.0.1:PORT/away: 302 Found", "/round": "critical ",
		"/endless": "passing ",
	} {
		expect(t, to, `check { http = "`+path+`" interval = "1s" }`, want)
	}
	expect(t, to, `check { http = "/moved" disable_redirects = true interval = "1s" }`, "critical <a href=\"/200\">Found</a>.\nGET http://127.0.0.1:PORT/moved: 302 Found")
	expect(t, to, `check { http = "/slow" timeout = "50ms" interval = "1s" }`, "critical no answer within 50ms: ")
	expect(t, to, `check { http = "http://localhost:PORT/echo" method = "PUT" body = "ping" header { Host = ["web.example"] x-probe = ["a", "b"] } interval = "1s" }`,
		"passing PUT web.example [a b] tacit health check ping\nPUT http://localhost:PORT/echo: 200 OK")
	expect(t, listen(t, func(c net.Conn) { _, _ = io.WriteString(c, "SSH-2.0-x\r\n") }), `check { http = "/" interval = "1s" }`, "critical ")
	expect(t, listen(t, silent), `check { http = "/" timeout = "50ms" interval = "1s" }`, "critical no answer within 50ms: ")
}

func TestHTTPS(t *testing.T) {
	srv := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(srv.Close)
	srv.Config.ErrorLog = nil
	to := srv.Listener.Addr().String()
	const url = `check { http = "https://localhost:PORT/" interval = "1s" `
	expect(t, to, url+`}`, `critical Get "https://localhost:PORT/": tls: failed to verify certificate: x509: `)
	expect(t, to, url+`tls_server_name = "other.example" }`, `critical Get "https://localhost:PORT/": tls: failed to verify certificate: x509: `)
	expect(t, to, url+`tls_skip_verify = true }`, "critical 404 page not found\nGET https://localhost:PORT/: 404 Not Found")
}

// TestGRPC asks the health server of the gRPC library itself.
func TestGRPC(t *testing.T) {
	plain := grpcServer(t, nil, true)
	expect(t, plain, `check { grpc = "" interval = "1s" }`, "passing the server: SERVING")
	expect(t, plain, `check { grpc = "localhost:PORT/up" interval = "1s" }`, "passing up: SERVING")
	expect(t, plain, `check { grpc = "/down" interval = "1s" }`, "critical down: NOT_SERVING")
	expect(t, plain, `check { grpc = "/never" interval = "1s" }`, "critical the health server doesn't know that service (gRPC status 5: unknown service")
	expect(t, plain, `check { grpc = "/up" grpc_use_tls = true tls_skip_verify = true interval = "1s" }`, "critical ")
	expect(t, grpcServer(t, nil, false), `check { grpc = "" interval = "1s" }`, "critical the server has no grpc.health.v1.Health service (gRPC status 12: ")

	https := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(https.Close)
	secure := grpcServer(t, credentials.NewServerTLSFromCert(&https.TLS.Certificates[0]), true)
	expect(t, secure, `check { grpc = "/up" grpc_use_tls = true tls_skip_verify = true interval = "1s" }`, "passing up: SERVING")
	expect(t, secure, `check { grpc = "/up" grpc_use_tls = true interval = "1s" }`, "critical tls: failed to verify certificate: x509: ")
	expect(t, secure, `check { grpc = "/up" timeout = "2s" interval = "1s" }`, "critical ")

	web := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(web.Close)
	expect(t, web.Listener.Addr().String(), `check { grpc = "" interval = "1s" }`, "critical ")
	expect(t, listen(t, silent), `check { grpc = "" timeout = "50ms" interval = "1s" }`, "critical no answer within 50ms: ")
	expect(t, closed(t), `check { grpc = "" interval = "1s" }`, "critical dial tcp 127.0.0.1:PORT: connect: connection refused")
}

func grpcServer(t *testing.T, creds credentials.TransportCredentials, withHealth bool) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var opts []grpc.ServerOption
	if creds != nil {
		opts = append(opts, grpc.Creds(creds))
	}
	srv := grpc.NewServer(opts...)
	t.Cleanup(srv.Stop)
	if withHealth {
		h := health.NewServer()
		h.SetServingStatus("up", grpc_health_v1.HealthCheckResponse_SERVING)
		h.SetServingStatus("down", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
		grpc_health_v1.RegisterHealthServer(srv, h)
	}
	go func() { _ = srv.Serve(ln) }()
	return ln.Addr().String()
}

// TestServingStatus: what isn't the message that was asked for is no status.
func TestServingStatus(t *testing.T) {
	for reply, want := range map[string]int{
		"": -1, "\x00\x00\x00\x00": -1, "\x00\x00\x00\x00\x00": 0, "\x00\x00\x00\x00\x02\x08\x01": 1, "\x00\x00\x00\x00\x02\x08\x02": 2,
		"\x01\x00\x00\x00\x02\x08\x01": -1, "\x00\x00\x00\x00\x09\x08\x01": -1, "\x00\x00\x00\x00\x01\x08": -1, "\x00\x00\x00\x00\x02\x10\x01": -1,
		"\x00\x00\x00\x00\x02\x08\xff": -1,
	} {
		got, err := servingStatus([]byte(reply))
		if err != nil && want != -1 || err == nil && int(got) != want {
			t.Errorf("%x: %d, %v; want %d", reply, got, err, want)
		}
	}
}
