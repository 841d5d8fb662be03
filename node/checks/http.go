// SPDX-License-Identifier: Apache-2.0

package checks

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"tacit/node/definition"
)

const (
	maxRedirects = 10
	maxHeader    = 64 << 10 // bytes of an answer's header
)

func (m *Manager) tryHTTP(ctx context.Context, c *check) (status, output string) {
	req, err := m.request(ctx, c)
	if err != nil {
		return critical(err)
	}
	transport := m.transport(c)
	defer transport.CloseIdleConnections()
	client := http.Client{Transport: transport, CheckRedirect: func(next *http.Request, via []*http.Request) error {
		if c.Request.NoRedirects || len(via) > maxRedirects || next.URL.Host != req.URL.Host || next.URL.Scheme != req.URL.Scheme {
			return http.ErrUseLastResponse // to the same server only
		}
		return nil
	}}
	res, err := client.Do(req)
	if err != nil {
		return critical(err)
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(res.Body, maxOutput)) // the status has been received, and decides
	return ofHTTP(res.StatusCode), join(string(body), fmt.Sprintf("%s %s: %s", req.Method, req.URL, res.Status))
}

// ofHTTP is Consul's rule.
func ofHTTP(code int) string {
	switch {
	case code >= 200 && code <= 299:
		return definition.StatusPassing
	case code == http.StatusTooManyRequests:
		return definition.StatusWarning
	}
	return definition.StatusCritical
}

func (m *Manager) request(ctx context.Context, c *check) (*http.Request, error) {
	url := c.Target
	if strings.HasPrefix(url, "/") {
		to, _, err := m.conf.Target(c.instance)
		if err != nil {
			return nil, err
		}
		url = "http://" + to[0].String() + url
	}
	req, err := http.NewRequestWithContext(ctx, cmp.Or(c.Request.Method, http.MethodGet), url, strings.NewReader(c.Request.Body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "tacit health check")
	for name, values := range c.Request.Header {
		req.Header[http.CanonicalHeaderKey(name)] = values
	}
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
		req.Header.Del("Host")
	}
	return req, nil
}

// transport makes one connection, to the instance.
func (m *Manager) transport(c *check) *http.Transport {
	return &http.Transport{
		DialContext:            func(ctx context.Context, _, _ string) (net.Conn, error) { return m.dial(ctx, c) },
		TLSClientConfig:        &tls.Config{InsecureSkipVerify: c.TLS.SkipVerify, ServerName: c.TLS.ServerName},
		DisableKeepAlives:      true,
		MaxResponseHeaderBytes: maxHeader,
	}
}
