// SPDX-License-Identifier: Apache-2.0

package definition

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
)

// Limits and defaults of checks; the defaults are Consul's.
const (
	maxChecks     = 32 // of one instance
	maxCheckText  = 128
	maxThreshold  = 1000
	minInterval   = time.Second
	maxInterval   = 24 * time.Hour
	netTimeout    = 10 * time.Second
	scriptTimeout = 30 * time.Second
)

// checkDraft is a check block that is being read.
type checkDraft struct {
	HealthCheck
	d     *draft
	at    field // of the block
	path  string
	kinds []field // the keys that select a kind
	other bool    // it is of a kind that isn't run
}

// checks reads check {…}, repeated or not, and checks = [{…}].
func (d *draft) checks(f field) {
	path := "service." + f.key
	d.r.each(f, func(f field) {
		if f.kind == kindObject && len(f.fields) == 0 {
			return // as Consul does
		}
		c := &checkDraft{d: d, at: f, path: path, HealthCheck: HealthCheck{Status: StatusCritical, Source: d.r.source(f)}}
		before := len(d.r.problems)
		if c.read(); len(d.r.problems) == before {
			d.later = append(d.later, c.finish)
		}
	})
}

func (c *checkDraft) read() {
	d, r := c.d, c.d.r
	known := keys{
		"id": c.text(&c.ID), "name": c.text(&c.Name), "notes": func(f field) { c.Notes = r.string(f, c.key(f)) },
		"tcp": c.target(CheckTCP), "http": c.target(CheckHTTP), "grpc": c.target(CheckGRPC), "alias_service": c.target(CheckAlias),
		"args": c.args, "script": c.script,
		"ttl":      func(f field) { c.selects(CheckTTL, f); c.TTL = c.duration(f, minInterval) },
		"interval": func(f field) { c.Interval = c.duration(f, minInterval) },
		"timeout":  func(f field) { c.Timeout = c.duration(f, time.Millisecond) },
		"method":   c.method, "header": c.header, "body": func(f field) { c.Request.Body = r.string(f, c.key(f)) },
		"disable_redirects": c.flag(&c.Request.NoRedirects), "grpc_use_tls": c.flag(&c.TLS.Use), "tls_skip_verify": c.flag(&c.TLS.SkipVerify),
		"tls_server_name":          c.text(&c.TLS.ServerName),
		"success_before_passing":   c.threshold(&c.Thresholds.Passing),
		"failures_before_warning":  c.threshold(&c.Thresholds.Warning),
		"failures_before_critical": c.threshold(&c.Thresholds.Critical),
		"status":                   c.status,
		"namespace":                d.defaultOnly(join(c.path, "namespace")), "partition": d.defaultOnly(join(c.path, "partition")),
	}
	for key, why := range map[string]string{
		"deregister_critical_service_after": "a critical instance isn't called, and stays registered",
		"output_max_size":                   "4096 bytes of output are kept",
		"token":                             "there are no ACL tokens",
		"service_id":                        "the check belongs to the service in which it stands",
		"alias_node":                        "the health of nodes isn't a service's",
		"shell":                             "a script names its own shell",
		"h2ping_use_tls":                    "there is no h2ping",
	} {
		known[key] = d.ignore(join(c.path, key), why)
	}
	for _, key := range []string{"h2ping", "udp", "docker_container_id", "os_service"} {
		known[key] = func(f field) {
			c.other = true
			d.note(f, "%s: such checks aren't run, so this one says nothing; use tcp, http, grpc or args", c.key(f))
		}
	}
	r.object(c.at, c.path, known)
}

func (c *checkDraft) key(f field) string { return join(c.path, f.key) }

// selects sets the kind by the key that is only given for it.
func (c *checkDraft) selects(k CheckKind, f field) {
	c.Kind = k
	c.kinds = append(c.kinds, f)
}

func (c *checkDraft) target(k CheckKind) func(field) {
	return func(f field) {
		c.selects(k, f)
		c.Target = c.d.r.string(f, c.key(f))
	}
}

func (c *checkDraft) args(f field) {
	c.selects(CheckScript, f)
	if c.Args = c.d.r.strings(f, c.key(f)); f.kind == kindList && (len(c.Args) == 0 || c.Args[0] == "") {
		c.d.r.fail(f.at, "%s: must begin with a program", c.key(f))
	}
}

func (c *checkDraft) script(f field) {
	c.selects(CheckScript, f)
	c.Args = []string{"/bin/sh", "-c", c.d.r.string(f, c.key(f))}
}

func (c *checkDraft) text(into *string) func(field) {
	return func(f field) {
		*into = c.d.r.string(f, c.key(f))
		if f.kind == kindText && (*into == "" || len(*into) > maxCheckText || strings.ContainsFunc(*into, unicode.IsControl)) {
			c.d.r.fail(f.at, "%s: must be one line of 1 to %d bytes", c.key(f), maxCheckText)
		}
	}
}

func (c *checkDraft) flag(into *bool) func(field) {
	return func(f field) { *into = c.d.r.want(f, c.key(f), kindBool) && f.value.text == "true" }
}

func (c *checkDraft) threshold(into *int) func(field) {
	return func(f field) { *into = int(c.d.r.number(f, c.key(f), 0, maxThreshold)) }
}

func (c *checkDraft) duration(f field, least time.Duration) time.Duration {
	if !c.d.r.want(f, c.key(f), kindText) {
		return least
	}
	t, err := time.ParseDuration(f.value.text)
	if err != nil || t < least || t > maxInterval {
		c.d.r.fail(f.at, "%s: %.20q: must be a time from %s to %s, such as \"10s\"", c.key(f), f.value.text, least, maxInterval)
		return least
	}
	return t
}

func (c *checkDraft) method(f field) {
	c.Request.Method = strings.ToUpper(c.d.r.string(f, c.key(f)))
	if strings.ContainsFunc(c.Request.Method, func(r rune) bool { return r < 'A' || r > 'Z' }) {
		c.d.r.fail(f.at, "%s: %.20q: must be an HTTP method, such as GET", c.key(f), c.Request.Method)
	}
}

// header reads header { Name = ["value", …] }.
func (c *checkDraft) header(f field) {
	v, ok := c.d.r.single(f, c.key(f))
	if !ok {
		return
	}
	c.Request.Header = map[string][]string{}
	for _, h := range v.fields {
		path := join(c.key(f), h.key)
		if h.kind == kindText {
			h.value = value{at: h.at, kind: kindList, list: []value{h.value}}
		}
		values := c.d.r.strings(h, path)
		if h.key == "" || strings.ContainsFunc(h.key, notMetaKey) || slices.ContainsFunc(values, func(s string) bool { return strings.ContainsFunc(s, unicode.IsControl) }) {
			c.d.r.fail(h.at, "%s: neither the name nor the value can be sent in an HTTP header", path)
		}
		c.Request.Header[h.key] = values
	}
}

func (c *checkDraft) status(f field) {
	switch s := c.d.r.string(f, c.key(f)); s {
	case StatusPassing, StatusWarning, StatusCritical:
		c.Status = s
	case "":
	default:
		c.d.r.fail(f.at, "%s: %.20q: must be passing, warning or critical", c.key(f), s)
	}
}

// finish checks what depends on the whole service, and adds the check to it.
func (c *checkDraft) finish() {
	d, r := c.d, c.d.r
	switch {
	case c.other:
		return
	case len(c.kinds) == 0:
		r.fail(c.at.at, "%s: one of tcp, http, grpc, args, ttl and alias_service must be given", c.path)
		return
	case len(c.kinds) > 1:
		r.fail(c.kinds[1].at, "%s: %s is given already; write a second check for it", c.key(c.kinds[1]), c.kinds[0].key)
		return
	case c.Interval == 0 && c.Kind != CheckTTL && c.Kind != CheckAlias:
		r.fail(c.at.at, "%s.interval: missing; say how often, such as \"10s\"", c.path)
	case c.Interval != 0 && c.Kind == CheckTTL:
		r.fail(c.at.at, "%s: interval and ttl exclude each other", c.path)
	case c.Kind == CheckAlias && c.Target == "":
		r.fail(c.kinds[0].at, "%s: must name an instance or a service of this node", c.key(c.kinds[0]))
	case c.Kind == CheckTCP || c.Kind == CheckHTTP || c.Kind == CheckGRPC:
		r.check(c.kinds[0], c.key(c.kinds[0]), d.checkEndpoint(c.HealthCheck))
	}
	c.defaults()
	if slices.ContainsFunc(d.Checks, func(o HealthCheck) bool { return o.ID == c.ID }) {
		r.fail(c.at.at, "%s.id: another check of the service is called %s", c.path, c.ID)
	}
	if d.Checks = append(d.Checks, c.HealthCheck); len(d.Checks) == maxChecks+1 {
		r.fail(c.at.at, "%s: more than %d checks", c.path, maxChecks)
	}
}

// defaults are Consul's: checks are called after their service, and counted
// where there are several.
func (c *checkDraft) defaults() {
	c.Name = cmp.Or(c.Name, c.ID, string(c.Kind))
	if c.ID == "" {
		c.ID = "service:" + c.d.ID
		if len(c.d.later) > 1 {
			c.ID += fmt.Sprintf(":%d", len(c.d.Checks)+1)
		}
	}
	switch c.Kind {
	case CheckTTL, CheckAlias:
		c.Interval, c.Timeout = 0, 0
	case CheckScript:
		c.Timeout = cmp.Or(c.Timeout, scriptTimeout)
	default:
		c.Timeout = cmp.Or(c.Timeout, netTimeout)
	}
}
