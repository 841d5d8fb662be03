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

// flow is what is asked of a line of `tacit flows --follow --json`.
type flow struct {
	Source, Destination, Direction, Reason string
	Client                                 netip.AddrPort
	DialledFrom                            netip.AddrPort `json:"dialled_from"`
	PID                                    int
}

// place joins a server's line to a flow: where the server was called from, and
// the caller's own port. Of several lines about one place the order is that of
// time in both lists: a port isn't used again before it is free.
type place struct{ destination, dialled, port string }

// verdict is what the records say about who called whom.
type verdict struct {
	callers map[string]attempt // by id
	at      map[string]target  // by id

	answered, carriedAway, carriedHere, direct int // connections by their way
	wrong, bogus                               int // taken for another; the server was told nonsense
	unmatched, leftOver                        int // no flow for a server's line; no line for a flow
	acceptedDenied, refusedAllowed             int
	refusals, wrongRefusals                    int // records of refusals; those that name another caller
	missed                                     int // refusals that no record is left of
	failed                                     map[string]int
	samples                                    []string
}

func (b *attributionBed) judge() *verdict {
	v := &verdict{callers: map[string]attempt{}, at: map[string]target{}, failed: map[string]int{}}
	refused := 0
	for i := range services {
		for _, a := range attempts(b.callers[i].Output()) {
			t := b.targets[i][a.target]
			v.callers[a.id], v.at[a.id] = a, t
			refused += v.judgeAttempt(i, t, a)
		}
	}
	carried := map[place][]flow{}
	for i, p := range b.flows {
		b.readFlows(v, i, p.Output(), carried)
	}
	v.missed = refused - v.refusals
	for i := range services {
		for _, s := range servedBy(b.servers[i].Output()) {
			v.judgeServed(service(i), s, carried)
		}
	}
	for place, left := range carried {
		v.leftOver += len(left)
		for _, f := range left {
			v.sample("left over: %+v at %+v", f, place)
		}
	}
	return v
}

// judgeAttempt is policy's testimony. It returns 1 for what a hook refused.
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
func (b *attributionBed) readFlows(v *verdict, host int, text string, carried map[place][]flow) {
	pids := map[int]string{}
	for i := range services {
		pids[b.callers[i].PID()] = service(i)
	}
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "{") {
			v.sample("host%d: %s", host+1, line)
			continue
		}
		var f flow
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			b.t.Errorf("flows: %v: %s", err, line)
			continue
		}
		if f.Direction == "hook" && pids[f.PID] != "" {
			v.refusals++
			if f.Source != pids[f.PID] {
				v.wrongRefusals++
				v.sample("process %d is %s: %s", f.PID, pids[f.PID], line)
			}
		}
		if f.DialledFrom.IsValid() {
			key := place{f.Destination, f.DialledFrom.String(), fmt.Sprint(f.Client.Port())}
			carried[key] = append(carried[key], f)
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
	// from program to program, the peer is the caller's own port. By chance the
	// daemon's may be the same number: on one node only a socket for IPv6 is carried.
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

// sample keeps the first few of what is remarkable.
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
	figure(t, "attribution: on one node directly (policy is the witness)", "%d", v.direct)
	count(t, "attribution: every way was used", "yes", v.carriedAway > 0 && v.carriedHere > 0 && v.direct > 0,
		v.carriedAway > 0 && v.carriedHere > 0 && v.direct > 0)
	zero(t, "attribution: caller taken for another", v.wrong)
	zero(t, "attribution: denied, and yet connected", v.acceptedDenied)
	zero(t, "attribution: allowed, and yet refused", v.refusedAllowed)
	count(t, "attribution: refusals that a record names the process of", "some", v.refusals, v.refusals > 0)
	zero(t, "attribution: refusals with another caller's name", v.wrongRefusals)
	figure(t, "attribution: refusals without a record", "%d", v.missed)
	zero(t, "attribution: servers' lines without a flow", v.unmatched)
	zero(t, "attribution: flows without a server's line", v.leftOver)
	zero(t, "attribution: servers' lines that no caller explains", v.bogus)
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
