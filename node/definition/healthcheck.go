// SPDX-License-Identifier: Apache-2.0

package definition

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// CheckKind is how a health check finds out.
type CheckKind string

// The kinds. Each is the key of a check block that selects it.
const (
	CheckTCP    CheckKind = "tcp"    // a connection is accepted
	CheckHTTP   CheckKind = "http"   // status 2xx passes, 429 warns
	CheckGRPC   CheckKind = "grpc"   // grpc.health.v1.Health says SERVING
	CheckScript CheckKind = "script" // exit status 0 passes, 1 warns
	CheckTTL    CheckKind = "ttl"    // somebody says so, again and again
	CheckAlias  CheckKind = "alias"  // the status of another instance of this node
)

// Statuses of a check.
const (
	StatusPassing  = "passing"
	StatusWarning  = "warning"
	StatusCritical = "critical"
)

// HealthCheck is one check block. Its meaning is that of Consul's agent.
type HealthCheck struct {
	ID         string        `json:"id"` // unique in the instance
	Name       string        `json:"name"`
	Notes      string        `json:"notes,omitempty"`
	Kind       CheckKind     `json:"kind"`
	Target     string        `json:"target,omitempty"` // tcp: HOST:PORT; http: URL or path; grpc: HOST:PORT/SERVICE; alias: an instance or a service
	Args       []string      `json:"args,omitempty"`
	Request    Request       `json:"request,omitzero"`
	TLS        TLS           `json:"tls,omitzero"`
	Interval   time.Duration `json:"interval,omitempty"` // between starts; 0 for ttl and alias
	Timeout    time.Duration `json:"timeout,omitempty"`
	TTL        time.Duration `json:"ttl,omitempty"`
	Status     string        `json:"status"` // before the first result
	Thresholds Thresholds    `json:"thresholds,omitzero"`
	Source     string        `json:"source"` // file:line
}

// Request is what an HTTP check asks.
type Request struct {
	Method      string              `json:"method,omitempty"` // "": GET
	Header      map[string][]string `json:"header,omitempty"`
	Body        string              `json:"body,omitempty"`
	NoRedirects bool                `json:"no_redirects,omitempty"`
}

// TLS is how an HTTP or gRPC check uses TLS.
type TLS struct {
	Use        bool   `json:"use,omitempty"` // gRPC; for HTTP the URL says it
	SkipVerify bool   `json:"skip_verify,omitempty"`
	ServerName string `json:"server_name,omitempty"`
}

// Thresholds are how many results of a kind in a row change the status. 0 is 1.
type Thresholds struct {
	Passing  int `json:"passing,omitempty"`
	Warning  int `json:"warning,omitempty"` // failures; 0: as Critical
	Critical int `json:"critical,omitempty"`
}

// Endpoint is where a tcp, http or grpc check connects to; "" and 0 mean the
// instance's own listener. host is "localhost", an IP address, or a name, which only
// an outside service has.
func (c HealthCheck) Endpoint() (host string, port uint16, err error) {
	at := c.Target
	switch c.Kind {
	case CheckHTTP:
		return httpEndpoint(c.Target)
	case CheckGRPC:
		at, _, _ = strings.Cut(c.Target, "/")
	}
	if at == "" {
		return "", 0, nil
	}
	host, text, err := net.SplitHostPort(at)
	if err != nil {
		return "", 0, fmt.Errorf("%.80q: must be HOST:PORT, or \"\" for the service's own listener", at)
	}
	return endpoint(host, text)
}

// GRPCService is the service whose health a gRPC check asks for; "": the server's.
func (c HealthCheck) GRPCService() string {
	_, service, _ := strings.Cut(c.Target, "/")
	return service
}

func httpEndpoint(text string) (host string, port uint16, err error) {
	if strings.HasPrefix(text, "/") {
		return "", 0, nil
	}
	u, err := url.Parse(text)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return "", 0, fmt.Errorf("%.80q: must be a URL with http or https, or a path such as /health for the service's own listener", text)
	}
	number := u.Port()
	if number == "" {
		number = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return endpoint(u.Hostname(), number)
}

func endpoint(host, number string) (string, uint16, error) {
	port, err := strconv.ParseUint(number, 10, 16)
	if err != nil || port == 0 {
		return "", 0, fmt.Errorf("port %.20s: must be 1 to 65535", number)
	}
	if host == "" || strings.EqualFold(host, "localhost") {
		return "localhost", uint16(port), nil
	}
	if a, err := netip.ParseAddr(host); err == nil {
		host = a.Unmap().String()
	}
	return host, uint16(port), nil
}

func notOwn(host string) error {
	return fmt.Errorf("%.80s isn't this instance: a check reaches its own instance only; write localhost, and the name into header { Host = [\"…\"] } or tls_server_name where it matters", host)
}

// checkEndpoint refuses to connect to anything but the instance.
func (d *Definition) checkEndpoint(c HealthCheck) error {
	host, port, err := c.Endpoint()
	switch {
	case err != nil:
		return err
	case port == 0 && d.Port == 0:
		return errors.New("the service has no port, so the check must name one")
	case d.Outside != nil && port != 0:
		return d.checkOutsideEndpoint(host, port)
	case port == 0 || host == "localhost":
		return nil
	}
	if a, err := netip.ParseAddr(host); err != nil || !a.IsLoopback() && host != d.Address {
		return notOwn(host)
	}
	return nil
}

// checkOutsideEndpoint is checkEndpoint for an outside service, which has one port.
func (d *Definition) checkOutsideEndpoint(host string, port uint16) error {
	if !d.Outside.Serves(host) {
		return fmt.Errorf("%.80s isn't this service: write one of its hosts or addresses", host)
	}
	if port != d.Port {
		return fmt.Errorf("port %d: a check of an outside service reaches its own port %d", port, d.Port)
	}
	return nil
}
