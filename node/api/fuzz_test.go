// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"tacit/identity"
	"tacit/policy"
)

// FuzzRequest: no request makes the server panic, and what reaches the backend has
// names in the form that is stored, and text that fits a terminal line.
func FuzzRequest(f *testing.F) {
	for i, body := range []string{
		`{"node":"HOST2","services":["db","ingress/a"]}`, `{"scope":"node","subject":"HOST2","reason":"stolen"}`, `{"node":"host2","services":["db"],"ttl_ns":1}`,
		`{"name":"db","port":5432,"tags":["v1"],"meta":{"a":"b"}}`, `{"source":"Web","destination":"*","action":"allow","description":"x"}`,
		`{"intentions":[{"source":"web","destination":"db","action":"deny","from":"a.hcl:1"}]}`, `{"service":"db"}`,
	} {
		f.Add(byte(i), []byte(body))
	}
	f.Fuzz(func(t *testing.T, which byte, body []byte) {
		handlers := requests(t)
		h := handlers[int(which)%len(handlers)]
		answer := httptest.NewRecorder()
		h.ServeHTTP(answer, httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body)))
		if answer.Code != http.StatusOK && answer.Code != http.StatusBadRequest && answer.Code != http.StatusForbidden {
			t.Errorf("status %d: %s", answer.Code, answer.Body)
		}
	})
}

// requests are handlers that check what would reach the backend.
func requests(t *testing.T) []http.Handler {
	sources := func(names ...Name) {
		for _, n := range names {
			if got, err := identity.ParseSource(string(n)); err != nil || got != n {
				t.Errorf("the name %q reaches the backend", n)
			}
		}
	}
	short := func(s string) {
		if len(s) > maxText {
			t.Errorf("a text of %d bytes reaches the backend", len(s))
		}
	}
	return []http.Handler{
		post(func(_ context.Context, r GrantRequest) (any, error) {
			sources(append(r.Services, r.Node)...)
			return nil, nil
		}),
		post(func(_ context.Context, r Revocation) (any, error) {
			if r.Scope == ScopeNode {
				sources(Name(r.Subject))
			}
			short(r.Reason)
			return nil, nil
		}),
		post(func(_ context.Context, r TokenRequest) (any, error) {
			sources(append(r.Services, r.Node)...)
			return nil, nil
		}),
		post(func(_ context.Context, r Registration) (any, error) { sources(r.Name); return nil, nil }),
		post(func(_ context.Context, r IntentionChange) (any, error) {
			short(r.Description)
			for _, n := range []Name{r.Source, r.Destination} {
				if n != policy.Any {
					sources(n)
				}
			}
			return nil, nil
		}),
		post(func(_ context.Context, r ApplyRequest) (any, error) {
			for _, w := range r.Intentions {
				short(w.Description)
			}
			return nil, nil
		}),
		post(func(_ context.Context, r RunRequest) (any, error) { sources(r.Service); return nil, nil }),
	}
}
