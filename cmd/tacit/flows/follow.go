// SPDX-License-Identifier: Apache-2.0

package flows

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"

	"tacit/cmd/tacit/cli"
	"tacit/cmd/tacit/table"
	"tacit/node/api/flow"
)

// The daemon holds four thousand records and drops a quarter at once: it is asked more
// often while many come.
const (
	pause     = 300 * time.Millisecond
	busyPause = 100 * time.Millisecond
	busy      = 500             // records in one pause
	lateness  = 5 * time.Second // in which a connection that has begun is listed, at most
)

// following prints connections as they come.
type following struct {
	*cli.Env
	query flow.Query
	table *table.Table
	seen  map[connection]bool // live ones that were printed
}

// connection tells live ones apart.
type connection struct {
	began               int64
	source, destination flow.Name
	direction, client   string
}

func follower(e *cli.Env, q flow.Query) *following {
	if q.Live == "" {
		q.Live = flow.LiveNot // a live one is printed when it ends
	}
	return &following{Env: e, query: q, table: newTable(), seen: map[connection]bool{}}
}

// run goes on until ctx ends, or nobody reads any more what it prints.
func (f *following) run(ctx context.Context) error {
	signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE) // else it would end the program
	for !f.unread() {
		list, err := f.Daemon().Flows(ctx, f.query)
		if err != nil {
			return err
		}
		if err := f.print(list); errors.Is(err, unix.EPIPE) {
			return nil
		} else if err != nil {
			return err
		}
		wait := pause
		if list.Last > f.query.After+busy {
			wait = busyPause
		}
		f.advance(list.Last)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
	return nil
}

// advance has the next request ask for what is new.
func (f *following) advance(last uint64) {
	f.query.After, f.query.Since = last, 0
	if f.query.Live == flow.LiveOnly {
		f.query.Since = lateness
	}
}

// unread says that the reader of the output has gone. A pipe tells it also while
// there is nothing to write.
func (f *following) unread() bool {
	file, ok := f.Stdout.(*os.File)
	if !ok {
		return false
	}
	poll := []unix.PollFd{{Fd: int32(file.Fd())}}
	n, err := unix.Poll(poll, 0)
	return err == nil && n > 0 && poll[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0
}

// print prints what is new, and on standard error how much is missing before it.
func (f *following) print(list *flow.List) error {
	if list.Missed > 0 {
		fmt.Fprintf(f.Stderr, "%d records are missing here: the daemon recorded them faster than tacit read them\n", list.Missed)
	}
	for _, r := range f.fresh(list.Flows) {
		if !f.JSON {
			addRow(f.table, r)
			continue
		}
		line, err := cli.Versioned(r)
		if err == nil {
			_, err = fmt.Fprintln(f.Stdout, string(line))
		}
		if err != nil {
			return err
		}
	}
	if f.JSON {
		return nil
	}
	return f.table.Flush(f.Stdout, f.Width)
}

// fresh are the records that weren't printed yet: those of live connections come
// again until these are older than the daemon is asked for.
func (f *following) fresh(all []flow.Record) (out []flow.Record) {
	if f.query.Live != flow.LiveOnly {
		return all
	}
	now := map[connection]bool{}
	for _, r := range all {
		key := connection{r.Time.UnixNano(), r.Source, r.Destination, r.Direction, r.Client.String()}
		if now[key] = true; !f.seen[key] {
			out = append(out, r)
		}
	}
	f.seen = now
	return out
}
