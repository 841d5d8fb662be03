// SPDX-License-Identifier: Apache-2.0

package reality

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// startPostgres makes a cluster that trusts whoever reaches it. The mesh decides
// who does.
func startPostgres(t *testing.T, f *fixture, s program) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if len(found) == 0 {
		t.Fatal("no PostgreSQL: run build/deps.sh real")
	}
	server := found[len(found)-1]
	data := filepath.Join(f.dir(t, s, nil), "data")
	initdb := asUser(s.user, filepath.Join(filepath.Dir(server), "initdb"), "-D", data, "-A", "trust", "--no-sync", "--locale=C.UTF-8")
	if out, exit := f.here.Run(t, "user", initdb[0], initdb[1:]...); exit != 0 {
		t.Fatalf("initdb: %s", out)
	}
	testhost.WriteFile(t, filepath.Join(data, "pg_hba.conf"), "host all all all trust\n")
	own(t, s.user, data)
	f.serve(t, s, server, "-D", data, "-c", "listen_addresses=*", "-c", fmt.Sprintf("port=%d", s.port), "-c", "unix_socket_directories=",
		"-c", "fsync=off", "-c", "dynamic_shared_memory_type=mmap")
}

// sql runs one statement as the caller and returns its result.
func sql(t *testing.T, h *testhost.Host, statement string) string {
	t.Helper()
	return strings.TrimSpace(says(t, h, "", "psql", "-X", "-h", "db", "-U", "postgres", "-At", "-c", statement))
}

func (f *fixture) postgres(t *testing.T) {
	f.from(t, func(t *testing.T, h *testhost.Host) {
		t.Run("pgbench", func(t *testing.T) {
			says(t, h, "done", "pgbench", "-h", "db", "-U", "postgres", "-i", "-q", "postgres")
			says(t, h, "number of failed transactions: 0", "pgbench", "-h", "db", "-U", "postgres", "-c", "4", "-j", "2", "-t", "100", "postgres")
			says(t, h, "number of failed transactions: 0", "pgbench", "-h", "db", "-U", "postgres", "-c", "4", "-t", "25", "-C", "-S", "postgres")
		})
		t.Run("COPY", func(t *testing.T) { copyRows(t, h) })
		t.Run("NOTIFY", func(t *testing.T) { notify(t, h, f.remote) })
		t.Run("cancel", func(t *testing.T) { cancel(t, h) })
	})
}

// copyRows takes 26 MB out of a table, and puts them into another one.
func copyRows(t *testing.T, h *testhost.Host) {
	file := filepath.Join(h.Dir, "rows")
	const sum = "select count(*), sum(hashtext(line)::bigint) from "
	sql(t, h, "drop table if exists rows, again; create table again (line text);"+
		"create table rows as select repeat(md5(i::text), 4) as line from generate_series(1, 200000) i")
	sql(t, h, `\copy rows to '`+file+`'`)
	if info, err := os.Stat(file); err != nil || info.Size() != 200000*129 {
		t.Fatalf("COPY TO: %v, %v", info, err)
	}
	sql(t, h, `\copy again from '`+file+`'`)
	if want, got := sql(t, h, sum+"rows"), sql(t, h, sum+"again"); got != want || !strings.HasPrefix(got, "200000|") {
		t.Errorf("COPY FROM: %s, want %s", got, want)
	}
}

// notify: a session that listens hears of a notification from another node.
func notify(t *testing.T, listens, notifies *testhost.Host) {
	// psql shows what it has heard after each statement.
	session := listens.StartAs(t, caller, "sh", "-c",
		`(echo "listen news;"; while echo "select 'turn';"; do sleep 0.1; done) | psql -X -h db -U postgres -At`)
	testhost.AwaitText(t, 10*time.Second, "the session listens", "turn", session.Output)
	sql(t, notifies, "notify news, 'it works'")
	testhost.AwaitText(t, 10*time.Second, "the notification", `"news" with payload "it works"`, session.Output)
}

// cancel: Ctrl-C in psql makes a second connection, which makes the server end
// the statement of the first.
func cancel(t *testing.T, h *testhost.Host) {
	const statement = "select pg_sleep(50)"
	session := h.StartAs(t, caller, "psql", "-X", "-h", "db", "-U", "postgres", "-At", "-c", statement)
	testhost.Eventually(t, 10*time.Second, "the statement runs", func() error {
		if sql(t, h, "select count(*) from pg_stat_activity where state = 'active' and query = '"+statement+"'") != "1" {
			return errText("not yet")
		}
		return nil
	})
	session.Signal(syscall.SIGINT)
	const want = "ERROR:  canceling statement due to user request"
	if exit := session.Wait(t, 5*time.Second); exit == 0 || !strings.Contains(session.Output(), want) {
		t.Errorf("after Ctrl-C: exit %d, want %q in %s", exit, want, session.Output())
	}
}
