// SPDX-License-Identifier: Apache-2.0

package enrol_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tacit/identity"
	"tacit/node/enrol"
)

// unreachable is a loopback address on which no socket listens.
func unreachable(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

func TestIssuerErrorsReachTheCaller(t *testing.T) {
	m := newMesh(t)
	token, text := m.token(t)
	for name, c := range map[string]struct {
		issuer error
		want   string
	}{
		"a plain no":     {identity.ErrTokenExpired, identity.ErrTokenExpired.Error()},
		"with a mark up": {errors.New(`"n2" <taken> & held`), `"n2" <taken> & held`},
		"no answer":      {nil, "no answer"},
	} {
		t.Run(name, func(t *testing.T) {
			addr, served := m.listen(t, t.Context(), issuer{admit: func(context.Context, enrol.Ask) (*enrol.Admission, error) {
				return nil, c.issuer
			}})
			// a refusal is final: the error of a second address would be in the text
			_, err := enrol.Enrol(t.Context(), token, enrol.Ask{Token: text}, []string{addr, unreachable(t)})
			if !errors.Is(err, enrol.ErrRefused) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "connect") {
				t.Errorf("the caller's error: %v", err)
			}
			if err := <-served; err == nil || (c.issuer != nil && !errors.Is(err, c.issuer)) {
				t.Errorf("the server's error: %v", err)
			}
		})
	}
	addr, _ := m.listen(t, t.Context(), issuer{issue: func(identity.Name, []byte, enrol.Renewal) (*enrol.Issued, error) {
		return nil, errors.New("not granted")
	}})
	conf := identity.ClientTLS(m.node(t, "n2"), identity.ALPNIssue, identity.NodeID(domain, "n1"), nil)
	_, err := enrol.Renew(t.Context(), netip.MustParseAddrPort(addr), conf, enrol.Renewal{Service: "db"})
	if !errors.Is(err, enrol.ErrRefused) || !strings.Contains(err.Error(), "not granted") {
		t.Errorf("renewal: %v", err)
	}
}

func TestAnotherMeshIsRefused(t *testing.T) {
	m := newMesh(t)
	token, text := newMesh(t).token(t) // same names, another root
	addr, _ := m.listen(t, t.Context(), issuer{admit: func(context.Context, enrol.Ask) (*enrol.Admission, error) {
		t.Error("the token was shown to another mesh")
		return nil, errors.New("unexpected")
	}})
	_, err := enrol.Enrol(t.Context(), token, enrol.Ask{Token: text}, []string{addr})
	if err == nil || errors.Is(err, enrol.ErrRefused) {
		t.Fatalf("enrolled: %v", err)
	}
	for _, part := range []string{addr, "this is not the mesh that the token is for"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q doesn't say %q", err, part)
		}
	}
}

func TestUnreachable(t *testing.T) {
	m := newMesh(t)
	token, text := m.token(t)
	one, two := unreachable(t), unreachable(t)
	_, err := enrol.Enrol(t.Context(), token, enrol.Ask{Token: text}, []string{one, two})
	if err == nil || !strings.Contains(err.Error(), one) || !strings.Contains(err.Error(), two) || errors.Is(err, enrol.ErrRefused) {
		t.Errorf("two addresses: %v", err)
	}
	_, err = enrol.Enrol(t.Context(), token, enrol.Ask{Token: text}, nil)
	if err == nil || strings.Contains(err.Error(), "%!") || !strings.Contains(err.Error(), "--join") {
		t.Errorf("no address: %v", err)
	}
}

func TestUnreadableRequests(t *testing.T) {
	m := newMesh(t)
	token, _ := m.token(t)
	addr, served := m.listen(t, t.Context(), issuer{admit: func(context.Context, enrol.Ask) (*enrol.Admission, error) {
		t.Error("the issuer was asked")
		return nil, errors.New("unexpected")
	}})
	_, err := enrol.Enrol(t.Context(), token, enrol.Ask{Token: strings.Repeat("x", 300<<10)}, []string{addr})
	if !errors.Is(err, enrol.ErrRefused) || !strings.Contains(err.Error(), "longer than 262144 bytes") {
		t.Errorf("a long request: %v", err)
	}
	if err := <-served; err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("the server's error: %v", err)
	}
}

// TestBadRequests sends bytes that no client would.
func TestBadRequests(t *testing.T) {
	for _, text := range []string{"GET / HTTP/1.1\r\n\r\n", `{"token":7}`, `[]`} {
		client, server := net.Pipe()
		served := make(chan error, 1)
		go func() { served <- enrol.ServeAdmission(t.Context(), server, issuer{}) }()
		if _, err := io.WriteString(client, text); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, 4096)
		n, err := client.Read(answer)
		if err != nil || !strings.Contains(string(answer[:n]), `"error":"unreadable request`) {
			t.Errorf("%q: answered %q, %v", text, answer[:n], err)
		}
		_ = client.Close()
		if err := <-served; err == nil {
			t.Errorf("%q: no error", text)
		}
	}
}

// TestServerDeadline: a client that sends nothing, or doesn't read the answer, holds
// the server for at most ten seconds.
func TestServerDeadline(t *testing.T) {
	for name, sends := range map[string]string{"silent": "", "half a request": `{"token":"x`, "takes no answer": `{}`} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, server := net.Pipe()
				defer func() { _ = client.Close() }()
				go func() { _, _ = io.WriteString(client, sends) }()
				began := time.Now()
				err := enrol.ServeAdmission(t.Context(), server, issuer{admit: func(context.Context, enrol.Ask) (*enrol.Admission, error) {
					return &enrol.Admission{}, nil
				}})
				if took := time.Since(began); err == nil || took > 10*time.Second {
					t.Errorf("after %s: %v", took, err)
				}
			})
		})
	}
}

func TestServerEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	client, server := net.Pipe()
	defer func() { _ = client.Close() }()
	served := make(chan error, 1)
	go func() { served <- enrol.ServeAdmission(ctx, server, issuer{}) }()
	cancel()
	select {
	case err := <-served:
		if err == nil {
			t.Error("no error")
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the server outlives its context")
	}
}

// TestClientKeepsItsContext: an authority accepts and never answers.
func TestClientKeepsItsContext(t *testing.T) {
	m := newMesh(t)
	token, text := m.token(t)
	for name, end := range map[string]struct {
		context func(context.Context) (context.Context, context.CancelFunc)
		want    error
	}{
		"deadline": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 200*time.Millisecond)
		}, context.DeadlineExceeded},
		"cancelled": {context.WithCancel, context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := end.context(t.Context())
			defer cancel()
			returned := make(chan struct{})
			addr, _ := m.listen(t, t.Context(), issuer{admit: func(context.Context, enrol.Ask) (*enrol.Admission, error) {
				if errors.Is(end.want, context.Canceled) {
					cancel()
				}
				<-returned
				return nil, errors.New("too late")
			}})
			defer close(returned)
			began := time.Now()
			_, err := enrol.Enrol(ctx, token, enrol.Ask{Token: text}, []string{addr})
			if !errors.Is(err, end.want) || errors.Is(err, enrol.ErrRefused) || !strings.Contains(err.Error(), addr) {
				t.Errorf("the caller's error: %v", err)
			}
			if took := time.Since(began); took > 8*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}

// TestResetIsExplained: a lane port without room for this host resets.
func TestResetIsExplained(t *testing.T) {
	m := newMesh(t)
	token, text := m.token(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for conn, err := ln.Accept(); err == nil; conn, err = ln.Accept() {
			_ = conn.(*net.TCPConn).SetLinger(0)
			_ = conn.Close()
		}
	}()
	_, err = enrol.Enrol(t.Context(), token, enrol.Ask{Token: text}, []string{ln.Addr().String()})
	if err == nil || !strings.Contains(err.Error(), "tacit status there says why") {
		t.Error(err)
	}
}
