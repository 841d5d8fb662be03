// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"tacit/bpf"
	"tacit/internal/testhost"
	"tacit/node/health"
)

// bare is a datapath that knows its hooks, enforcer and board, and nothing of a host.
func bare(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{hooks: &fakeHooks{}, enforcer: &fakeEnforcer{}, names: &fakeNames{}, board: health.NewBoard(), settings: newSettings(t), changed: make(chan bool, 64)}
	f.Datapath = New(f.config(7))
	return f
}

// TestWatchObjects: what was put right is a repair, what wasn't is a problem of
// its family, and a problem that is gone is cleared.
func TestWatchObjects(t *testing.T) {
	broken := errors.New("permission denied")
	f := bare(t)
	for _, step := range []struct {
		name     string
		found    []bpf.Repaired
		problems string
		repairs  string
	}{
		{name: "nothing"},
		{name: "all repaired", found: []bpf.Repaired{{Object: "hook connect4", Found: "detached"}, {Object: "map settings", Found: "changed"}},
			repairs: "hook connect4: detached\nmap settings: changed"},
		{name: "some not", found: []bpf.Repaired{{Object: "hook connect4", Found: "detached", Err: broken}, {Object: "map ports", Err: broken}, {Object: "map settings", Found: "unpinned"}},
			problems: "hook connect4: detached, and not repaired: permission denied\nmap ports: can't be examined, and not repaired: permission denied",
			repairs:  "hook connect4: detached\nmap settings: unpinned"},
		{name: "one is right again", found: []bpf.Repaired{{Object: "map ports", Found: "unpinned", Err: broken}},
			problems: "map ports: unpinned, and not repaired: permission denied",
			repairs:  "hook connect4: detached\nmap settings: unpinned"},
		{name: "all are", repairs: "hook connect4: detached\nmap settings: unpinned"},
	} {
		f.hooks.found = step.found
		f.watchObjects()
		differs(t, step.name+": problems", wrong(f.board), step.problems)
		differs(t, step.name+": repairs", repaired(f.board), step.repairs)
	}
}

// TestWatchMaps: a changed map is written again, and connections are judged again.
func TestWatchMaps(t *testing.T) {
	f := bare(t)
	for _, step := range []struct {
		name              string
		found             []string
		err               error
		problems, repairs string
		sweeps            int
	}{
		{name: "nothing"},
		{name: "unread", err: errors.New("no such map"), problems: "maps unread: no such map"},
		{name: "changed", found: []string{"ports", "intentions"}, repairs: "map intentions: changed by others\nmap ports: changed by others", sweeps: 1},
		{name: "nothing again", repairs: "map intentions: changed by others\nmap ports: changed by others"},
	} {
		f.enforcer.found, f.enforcer.err = step.found, step.err
		f.watchMaps()
		differs(t, step.name+": problems", wrong(f.board), step.problems)
		differs(t, step.name+": repairs", repaired(f.board), step.repairs)
		if len(f.changed) != step.sweeps {
			t.Errorf("%s: Changed was called %d times, want %d", step.name, len(f.changed), step.sweeps)
		}
		for len(f.changed) > 0 {
			if !<-f.changed {
				t.Errorf("%s: connections aren't judged again", step.name)
			}
		}
	}
}

// TestLookAround: the costlier looks rest between their turns.
func TestLookAround(t *testing.T) {
	if !alone(t) {
		return
	}
	f := newFixture(t).open(t)
	var due schedule
	begin := time.Now()
	f.lookAround(&due)
	if f.enforcer.verified != 1 || due.maps.Before(begin.Add(watchInterval)) || due.maps.After(time.Now().Add(longestUnread)) ||
		due.slow.Before(begin.Add(watchInterval)) || due.slow.After(time.Now().Add(slowInterval)) {
		t.Errorf("maps were read %d times; next at %s, ports at %s after the first", f.enforcer.verified, due.maps.Sub(begin), due.slow.Sub(begin))
	}
	testhost.Must(t, f.lane.Close())
	far := schedule{maps: time.Now().Add(time.Hour), slow: time.Now().Add(time.Hour)}
	before := far
	f.lookAround(&far)
	if f.enforcer.verified != 1 || wrong(f.board) != "" || far != before {
		t.Errorf("before their turn maps were read %d times; problems %q", f.enforcer.verified, wrong(f.board))
	}
	due = schedule{}
	f.lookAround(&due)
	if f.enforcer.verified != 2 || !strings.HasPrefix(wrong(f.board), "ports: lane port") {
		t.Errorf("at their turn maps were read %d times; problems %q", f.enforcer.verified, wrong(f.board))
	}
}

// TestNoLookWithoutDescriptors: nothing is examined, repaired or called bad; status
// can say what wasn't examined.
func TestNoLookWithoutDescriptors(t *testing.T) {
	f := bare(t)
	f.hooks.found = []bpf.Repaired{{Object: "hook connect4", Found: "detached"}}
	testhost.WithDescriptors(t, 0, func() { f.lookAround(&schedule{}); f.repairRoutes() })
	if wrong(f.board) != "" || repaired(f.board) != "" || f.enforcer.verified != 0 {
		t.Errorf("problems %q, repairs %q, maps were read %d times", wrong(f.board), repaired(f.board), f.enforcer.verified)
	}
	if short := f.board.Short(); len(short) != 1 || short[health.Key{Family: health.Look}] == nil {
		t.Errorf("couldn't be examined: %v", short)
	}
}

// TestWatchHost: a setting that keeps TPROXY from working is a problem while
// the plan has TPROXY.
func TestWatchHost(t *testing.T) {
	if !alone(t) {
		return
	}
	f := newFixture(t).open(t)
	set := func(value string) {
		testhost.Must(t, os.WriteFile("/proc/sys/net/ipv4/conf/eth0/src_valid_mark", []byte(value), 0))
		f.watchHost()
	}
	set("0")
	differs(t, "a good host", wrong(f.board), "")
	set("1")
	if got := wrong(f.board); !strings.HasPrefix(got, "sysctls: src_valid_mark is 1 on eth0: ") {
		t.Errorf("problems %q", got)
	}
	f.settings.Redirect = "sockets"
	testhost.Must(t, f.Restate())
	set("1")
	differs(t, "without TPROXY", wrong(f.board), "")
}

// TestRunLooks: Run repairs what no notice tells of, within seconds.
func TestRunLooks(t *testing.T) {
	if !alone(t) {
		return
	}
	f := newFixture(t).open(t)
	f.run(t)
	leave(t, f.tree)
	testhost.Eventually(t, waitFor, "the daemon is back", func() error {
		if got := repaired(f.board); got != "daemon's cgroup: the daemon was moved out of it" {
			return errors.New("repairs: " + got)
		}
		return nil
	})
	differs(t, "problems", wrong(f.board), "")
}
