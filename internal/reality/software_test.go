// SPDX-License-Identifier: Apache-2.0

package reality

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// program is a server, and its own client in three situations.
type program struct {
	service, user string
	port          int
	start         func(*testing.T, *fixture, program)
	call          string // by the service's plain name; a shell command
	answer        string // what the client prints
	refused       string // what the client prints when connect() is refused
	session       string // a call that lasts for a minute
	cut           string // what its client prints when the connection is reset; a regular expression
}

func software() []program {
	const (
		database = "psql -X -h db -U postgres -At -c "
		shell    = "ssh -F none -i $DIR/shell/user -o UserKnownHostsFile=$DIR/shell/known -o BatchMode=yes postgres@shell "
	)
	// A connection to another node is reset; one on this node is ended as by ss --kill.
	const aborted = "Connection reset by|Software caused connection abort"
	return []program{
		{service: "db", user: "postgres", port: 5432, start: startPostgres,
			call: database + "'select 6 * 7'", answer: "42",
			refused: "Connection refused", session: database + "'select pg_sleep(60)'", cut: "server closed the connection unexpectedly|" + aborted},
		{service: "cache", user: "redis", port: 6379, start: startRedis,
			call: "redis-cli -h cache ping", answer: "PONG",
			refused: "Connection refused", session: "redis-cli -h cache blpop nothing 60", cut: "Server closed the connection|" + aborted},
		{service: "web", user: "www-data", port: 8080, start: startNginx, // also at port 80, as the only port of the service
			call: "curl -sS http://web/", answer: "HTTP/1.1 web",
			refused: "Failed to connect to web port 80", session: "curl -sS -o /dev/null http://web/slow", cut: "curl: .*(" + aborted + "|not closed cleanly|unexpected eof)"},
		{service: "api", user: "www-data", port: 8081, start: startNginx,
			call: "curl -sS --http2-prior-knowledge http://api/", answer: "HTTP/2.0 api",
			refused: "Failed to connect to api port 80", session: "curl -sS --http2-prior-knowledge -o /dev/null http://api/slow", cut: "curl: .*(" + aborted + "|not closed cleanly|unexpected eof)"},
		{service: "secure", user: "www-data", port: 8443, start: startNginx, // also at port 443
			call: "curl -sS --cacert $DIR/secure/cert.pem https://secure/", answer: "HTTP/2.0 secure",
			refused: "Failed to connect to secure port 443", session: "curl -sS --cacert $DIR/secure/cert.pem -o /dev/null https://secure/slow", cut: "curl: .*(" + aborted + "|not closed cleanly|unexpected eof)"},
		{service: "shell", user: "postgres", port: 22, start: startSSH,
			call: shell + "'echo $((6 * 7))'", answer: "42",
			refused: "Connection refused", session: shell + "'sleep 60'", cut: "closed by remote host|" + aborted},
		{service: "files", user: "postgres", port: 873, start: startRsync,
			call: "rsync rsync://files/", answer: "tree",
			refused: "Connection refused", session: "rsync --bwlimit=100 rsync://files/tree/big $DIR/files/cut", cut: "rsync error: "},
	}
}

// intentions: nobody may call before an intention allows it; then the caller
// may, and no other program; a change back ends its session and refuses the next.
func (f *fixture) intentions(t *testing.T) {
	f.from(t, func(t *testing.T, h *testhost.Host) {
		for _, s := range software() {
			t.Run(s.service, func(t *testing.T) {
				f.refused(t, h, caller, s)
				f.remote.Tacit(t, "intention", "allow", caller, s.service, "--wait")
				says(t, h, s.answer, "sh", "-c", f.line(s.call))
				f.refused(t, h, stranger, s)
				f.refused(t, h, "", s)
				session := h.StartAs(t, caller, "sh", "-c", f.line(s.session))
				f.connected(t, s)
				began := time.Now()
				f.remote.Tacit(t, "intention", "deny", caller, s.service, "--wait")
				if exit := session.Wait(t, 5*time.Second); exit == 0 || !regexp.MustCompile(s.cut).MatchString(session.Output()) {
					t.Errorf("%s after a denial: exit %d, want %q in %q", s.session, exit, s.cut, session.Output())
				}
				t.Logf("%s, calls from %s: denied and cut within %s: %s", s.service, h.Name, time.Since(began).Round(time.Millisecond), session.Output())
				f.refused(t, h, caller, s)
				f.remote.Tacit(t, "intention", "delete", caller, s.service)
			})
		}
	})
	for _, s := range software() {
		f.remote.Tacit(t, "intention", "allow", caller, s.service, "--wait")
	}
}

// refused fails the test unless the client says so itself, at once: refused by
// connect(), not accepted and reset.
func (f *fixture) refused(t *testing.T, h *testhost.Host, service string, s program) {
	t.Helper()
	began := time.Now()
	out, exit := h.RunAs(t, service, "sh", "-c", f.line(s.call))
	if took := time.Since(began); exit == 0 || !strings.Contains(out, s.refused) || took > 10*time.Second {
		t.Errorf("%s as %q: %s: exit %d after %s, want %q in\n%s", h.Name, service, s.call, exit, took, s.refused, out)
	}
}

// connected waits until the server has a session.
func (f *fixture) connected(t *testing.T, s program) {
	t.Helper()
	filter := fmt.Sprintf("sport = :%d", s.port)
	testhost.AwaitText(t, 10*time.Second, "a session with "+s.service, fmt.Sprintf(":%d", s.port), func() string {
		out, _ := f.here.Run(t, "", "ss", "-Htn", "state", "established", filter)
		return out
	})
}

// line puts the servers' directory into a command.
func (f *fixture) line(command string) string { return strings.ReplaceAll(command, "$DIR", f.here.Dir) }

type errText string

func (e errText) Error() string { return string(e) }
