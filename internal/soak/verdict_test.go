// SPDX-License-Identifier: Apache-2.0

package soak

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// flow is what the test reads of a line of `tacit flows --follow --json`.
type flow struct {
	Source, Destination, Direction, Reason string
	Count                                  int
	Client                                 netip.AddrPort
	DialledFrom                            netip.AddrPort `json:"dialled_from"`
	PID                                    int
}

// place joins a server's line to a flow: the address from which the server was
// called, and the caller's own port. Several lines about one place have the same
// order in both lists, since a port is reused only after it has become free.
type place struct{ destination, dialled, port string }

// verdict is what the records say about who called whom.
type verdict struct {
	callers map[string]attempt // by id
	at      map[string]target  // by id

	answered, carriedAway, carriedHere, direct int // connections; by lane, by the daemon of one node, without it
	wrong, bogus                               int // taken for another; a server's line that no caller sent
	unmatched, leftOver                        int // a server's line without a flow; a flow without a line
	acceptedDenied, refusedAllowed             int
	refusals, wrongRefusals                    int // records of refusals; those that name another caller
	missed                                     int // refusals without a record
	failed                                     map[string]int
	samples                                    []string
}

func (f *attributionFixture) judge() *verdict {
	v := &verdict{callers: map[string]attempt{}, at: map[string]target{}, failed: map[string]int{}}
	refused := 0
	for i := range services {
		for _, a := range attempts(f.callers[i].Output()) {
			t := f.targets[i][a.target]
			v.callers[a.id], v.at[a.id] = a, t
			refused += v.judgeAttempt(i, t, a)
		}
	}
	carried := map[place][]flow{}
	for i, p := range f.flows {
		f.readFlows(v, i, p.Output(), carried)
	}
	v.missed = refused - v.refusals
	for i := range services {
		for _, s := range servedBy(f.servers[i].Output()) {
			v.judgeServed(service(i), s, carried)
		}
	}
	for place, left := range carried {
		v.leftOver += len(left)
		for _, record := range left {
			v.sample("left over: %+v at %+v", record, place)
		}
	}
	return v
}

// judgeAttempt compares a result with the intentions. It returns 1 for a refusal by
// a hook.
func (v *verdict) judgeAttempt(from int, t target, a attempt) int {
	may := allowed(from, int(t.Name[3]-'0'))
	switch {
	case a.result == "ok":
		v.answered++
		if !may {
			v.acceptedDenied++
			v.sample("%s reached %s, which it may not", a.id, t.Name)
		}
	case a.result == "connect:ECONNREFUSED":
		if may {
			v.refusedAllowed++
			v.sample("%s was refused by %s (%s), which it may call", a.id, t.Name, t.Addr)
		}
		return 1
	default:
		v.failed[a.result]++
		v.sample("%s to %s (%s): %s", a.id, t.Name, t.Addr, a.result)
	}
	return 0
}

// readFlows collects the flows to programs of one node, and checks refusals by
// the process that was refused.
func (f *attributionFixture) readFlows(v *verdict, host int, text string, carried map[place][]flow) {
	pids := map[int]string{}
	for i := range services {
		pids[f.callers[i].PID()] = service(i)
	}
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "{") {
			v.sample("host%d: %s", host+1, line)
			continue
		}
		var record flow
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			f.t.Errorf("flows: %v: %s", err, line)
			continue
		}
		if record.Direction == "hook" && pids[record.PID] != "" {
			v.refusals += record.Count
			if record.Source != pids[record.PID] {
				v.wrongRefusals++
				v.sample("process %d is %s: %s", record.PID, pids[record.PID], line)
			}
		}
		if record.DialledFrom.IsValid() {
			key := place{record.Destination, record.DialledFrom.String(), fmt.Sprint(record.Client.Port())}
			carried[key] = append(carried[key], record)
		}
	}
}

// judgeServed compares a server's line with the caller's and with the flow.
func (v *verdict) judgeServed(destination string, s served, carried map[place][]flow) {
	a, known := v.callers[s.id]
	if !known || !strings.HasPrefix(s.id, s.name+".") || fmt.Sprint(a.port) != s.port && a.result == "ok" {
		v.bogus++
		v.sample("%s was told %+v; its caller says %+v", destination, s, a)
		return
	}
	// A direct connection has the caller's own port as its peer. The daemon's port
	// may be the same by chance, but on one node only IPv6-only sockets are carried.
	same := s.name < service(services/2) == (destination < service(services/2))
	if same && !v.at[s.id].V6Only && strings.HasSuffix(s.peer, ":"+s.port) {
		v.direct++
		return
	}
	key := place{destination, s.peer, s.port}
	if flows := carried[key]; len(flows) > 0 {
		if carried[key] = flows[1:]; len(flows) == 1 {
			delete(carried, key)
		}
		if flows[0].Source != s.name {
			v.wrong++
			v.sample("%s: %s called, the node says %s", destination, s.id, flows[0].Source)
		}
		if flows[0].Direction == "local" {
			v.carriedHere++
		} else {
			v.carriedAway++
		}
		return
	}
	v.unmatched++
	v.sample("%s: no flow for %+v", destination, s)
}

// sample keeps the first few details for a test that fails.
func (v *verdict) sample(format string, args ...any) {
	if len(v.samples) < 20 {
		v.samples = append(v.samples, fmt.Sprintf(format, args...))
	}
}

func (v *verdict) report(t *testing.T, wanted int) {
	t.Helper()
	count(t, "attribution: connections answered", fmt.Sprintf("%d or more", wanted), v.answered, v.answered >= wanted)
	figure(t, "attribution: of these by lane", "%d", v.carriedAway)
	figure(t, "attribution: on one node by the daemon", "%d", v.carriedHere)
	figure(t, "attribution: on one node directly (checked by the intentions)", "%d", v.direct)
	count(t, "attribution: all three ways were used", "yes", v.carriedAway > 0 && v.carriedHere > 0 && v.direct > 0,
		v.carriedAway > 0 && v.carriedHere > 0 && v.direct > 0)
	zero(t, "attribution: caller taken for another", v.wrong)
	zero(t, "attribution: denied, but connected", v.acceptedDenied)
	zero(t, "attribution: allowed, but refused", v.refusedAllowed)
	count(t, "attribution: refusals whose record names the process", "some", v.refusals, v.refusals > 0)
	zero(t, "attribution: refusals with another caller's name", v.wrongRefusals)
	figure(t, "attribution: refusals without a record", "%d", v.missed)
	zero(t, "attribution: servers' lines without a flow", v.unmatched)
	zero(t, "attribution: flows without a server's line", v.leftOver)
	zero(t, "attribution: servers' lines that no caller sent", v.bogus)
	failed := 0
	for _, result := range slices.Sorted(maps.Keys(v.failed)) {
		failed += v.failed[result]
		t.Logf("%d attempts: %s", v.failed[result], result)
	}
	zero(t, "attribution: attempts that failed otherwise", failed)
	if t.Failed() {
		t.Log(strings.Join(v.samples, "\n"))
	}
}
