// SPDX-License-Identifier: Apache-2.0

package flows

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tacit/cmd/tacit/cli"
	"tacit/node/api"
	"tacit/node/api/flow"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// host gives one answer after the other, then ends the command.
type host struct {
	api.Host
	answers []flow.List
	asked   []flow.Query
	end     func()
}

func (h *host) Flows(_ context.Context, q flow.Query) (*flow.List, error) {
	h.asked = append(h.asked, q)
	list := h.answers[0]
	if h.answers = h.answers[1:]; len(h.answers) == 0 {
		h.end()
	}
	return &list, nil
}

// follows runs tacit flows --follow until the daemon has given its last answer.
func follows(t *testing.T, q flow.Query, answers ...flow.List) (asked []flow.Query, out, errs string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	h := &host{answers: answers, end: cancel}
	socket := filepath.Join(t.TempDir(), "tacit.sock")
	ln, err := api.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	backend := api.Backend{Host: h, Nodes: struct{ api.Nodes }{}, Services: struct{ api.Services }{}, Intentions: struct{ api.Intentions }{}, Keys: struct{ api.Keys }{}}
	srv := api.NewServer(backend, slog.New(slog.NewTextHandler(io.Discard, nil)))
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(func() { _ = srv.Close() })
	var stdout, stderr bytes.Buffer
	e := &cli.Env{Stdout: &stdout, Stderr: &stderr, Getenv: func(string) string { return socket }, Client: api.NewClient}
	if err := follower(e, q).run(ctx); err != nil && ctx.Err() == nil {
		t.Fatal(err)
	}
	return h.asked, stdout.String(), stderr.String()
}

func record(seq uint64, source flow.Name) flow.Record {
	return flow.Record{Seq: seq, Count: 1, Time: noon, Source: source, Destination: "db", Port: 5432, Direction: "local", Reason: "closed"}
}

func live(began time.Time, source flow.Name) flow.Record {
	return flow.Record{Count: 1, Time: began, Source: source, Destination: "db", Port: 5432, Direction: "local", Live: true}
}

// sources are those of the rows, in order.
func sources(out string) string {
	var all []string
	for line := range strings.Lines(out) {
		all = append(all, strings.Fields(line)[1])
	}
	return strings.Join(all[1:], " ")
}

// TestFollow: each request asks for what is new, with the same filter; rows stay
// aligned; what was missed is told where it is missing.
func TestFollow(t *testing.T) {
	asked, out, errs := follows(t, flow.Query{Service: "db", Since: time.Hour},
		flow.List{Last: 2, Flows: []flow.Record{record(1, "a-long-name"), record(2, "b")}},
		flow.List{Last: 9, Missed: 3, Flows: []flow.Record{record(8, "c")}},
		flow.List{Last: 9})
	if fmt.Sprintf("%+v", asked) != fmt.Sprintf("%+v", []flow.Query{
		{Service: "db", Since: time.Hour, Live: flow.LiveNot}, {Service: "db", After: 2, Live: flow.LiveNot}, {Service: "db", After: 9, Live: flow.LiveNot}}) {
		t.Errorf("asked for %+v", asked)
	}
	if got := sources(out); got != "a-long-name b c" {
		t.Errorf("printed %s", got)
	}
	at := -1
	for line := range strings.Lines(out) {
		if i := max(strings.Index(line, "DIRECTION"), strings.Index(line, "local")); at >= 0 && i != at {
			t.Errorf("the direction is in columns %d and %d\n%s", at, i, out)
		} else {
			at = i
		}
	}
	if want := "3 records are missing here: the daemon recorded them faster than tacit read them\n"; errs != want {
		t.Errorf("standard error has %q, want %q", errs, want)
	}
}

// TestFollowLive: a connection is printed once, when it has begun; one that is listed a
// moment late isn't left out.
func TestFollowLive(t *testing.T) {
	asked, out, _ := follows(t, flow.Query{Live: flow.LiveOnly},
		flow.List{Flows: []flow.Record{live(noon.Add(-time.Hour), "a"), live(noon, "b")}},
		flow.List{Flows: []flow.Record{live(noon.Add(-time.Second), "late"), live(noon, "b"), live(noon.Add(time.Second), "c")}},
		flow.List{Flows: []flow.Record{live(noon.Add(time.Second), "c")}})
	if got := sources(out); got != "a b late c" {
		t.Errorf("printed %s", got)
	}
	if last := asked[2]; last.Live != flow.LiveOnly || last.Since != lateness {
		t.Errorf("asked for %+v: all live connections would be sent each time", last)
	}
}
