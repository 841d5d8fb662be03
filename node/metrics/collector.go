// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"context"
	"errors"
	"path"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tacit/node/api"
	"tacit/node/api/flow"
	"tacit/policy"
	"tacit/tproxy"
)

// answerTime is how long the parts may take: the self-probe takes two seconds where
// something fails.
const answerTime = 10 * time.Second

// collector reads the figures each time that Prometheus asks.
type collector struct {
	from  Sources
	known map[string]described
	mu    sync.Mutex
	bytes map[string]volume // by direction, as told last
	seen  *api.Status       // the last one
	at    time.Time         // of it
}

type described struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

// volume is what went both ways.
type volume struct{ sent, received uint64 }

func newCollector(from Sources) *collector {
	c := &collector{from: from, known: map[string]described{}, bytes: map[string]volume{}}
	for _, f := range families() {
		c.known[f.name] = described{f.desc(), f.kind}
	}
	return c
}

// Describe is what every metric says.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range c.known {
		out <- d.desc
	}
}

// Collect tells all figures, or why there are none: a scrape that fails is better than one
// that lies.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), answerTime)
	defer cancel()
	s, err := c.status(ctx)
	sums, err2 := c.from.Totals()
	if err := errors.Join(err, err2); err != nil {
		out <- prometheus.NewInvalidMetric(c.known[healthy].desc, err)
		return
	}
	to := sink{c.known, out}
	live := c.from.Live() // after the sums: what has ended meanwhile is in neither, instead of in both
	c.health(to, s)
	c.flows(to, sums, live)
	to.put(loopStalls, float64(c.from.Stalls()))
	c.lanes(to, s)
	c.certificates(to, s.Certificates)
	c.members(to, ctx, s)
	c.room(to)
}

// freshFor is how old what status says may be: it asks the kernel for each program, and
// tries what programs do, so that a scrape each second would cost much.
const freshFor = 5 * time.Second

// status is what tacit status says, or has said lately.
func (c *collector) status(ctx context.Context) (*api.Status, error) {
	if c.seen != nil && time.Since(c.at) < freshFor {
		return c.seen, nil
	}
	s, err := c.from.Status(ctx)
	if err != nil {
		return nil, err
	}
	c.seen, c.at = s, time.Now()
	return s, nil
}

// sink takes single figures.
type sink struct {
	known map[string]described
	out   chan<- prometheus.Metric
}

// put tells one figure. Text from elsewhere may be no UTF-8, which the library refuses.
func (s sink) put(name string, value float64, labels ...string) {
	for i := range labels {
		labels[i] = strings.ToValidUTF8(labels[i], "?")
	}
	d := s.known[name]
	m, err := prometheus.NewConstMetric(d.desc, d.kind, value, labels...)
	if err != nil {
		m = prometheus.NewInvalidMetric(d.desc, err)
	}
	s.out <- m
}

func (s sink) fails(name string, err error) {
	s.out <- prometheus.NewInvalidMetric(s.known[name].desc, err)
}

// byReason tells a figure for every reason, 0 where nothing was counted: a series that
// begins with 1 shows no increase.
func (s sink) byReason(name string, counts map[policy.Reason]uint64) {
	for _, r := range policy.Reasons() {
		s.put(name, float64(counts[r]), string(r))
	}
}

func (c *collector) health(to sink, s *api.Status) {
	to.put(buildInfo, 1, s.Version, runtime.Version())
	to.put(healthy, truth(s.Healthy))
	ok, waits := map[string]bool{}, false
	for _, check := range s.Checks {
		before, twice := ok[check.Name]
		ok[check.Name] = check.OK && (before || !twice)
		waits = waits || check.Name == api.CheckConfirm
	}
	for name, good := range ok {
		to.put(checkOK, truth(good), name)
	}
	to.put(unconfirmed, truth(waits))
	to.put(revision, float64(s.Revision))
	to.put(inForce, truth(s.Digest != ""))
	to.put(rebindingAnswers, float64(s.RebindingAnswers))
	to.byReason(kernelVerdicts, s.Counters)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// flows tells the sums of tacit flows, with zeros for what didn't happen yet.
func (c *collector) flows(to sink, sums flow.Sums, live []tproxy.Flow) {
	type kind struct {
		direction string
		reason    policy.Reason
	}
	counts, now, bytes := map[kind]uint64{}, map[string]int{}, map[string]volume{}
	for _, t := range sums.Totals {
		counts[kind{t.Direction, t.Reason}] = t.Count
		b := bytes[t.Direction]
		bytes[t.Direction] = volume{b.sent + t.Sent, b.received + t.Received}
	}
	for _, f := range live {
		now[f.Direction]++
		b := bytes[f.Direction]
		bytes[f.Direction] = volume{b.sent + f.Sent, b.received + f.Received}
	}
	carried := []string{tproxy.DirectionOut, tproxy.DirectionIn, tproxy.DirectionLocal}
	for _, direction := range append(carried, flow.Direct, flow.Hook) {
		for _, r := range policy.Reasons() {
			to.put(connections, float64(counts[kind{direction, r}]), direction, flow.VerdictOf(direction, r), string(r))
		}
	}
	for _, direction := range append(carried, flow.Direct) {
		b := c.grown(direction, bytes[direction])
		to.put(sentBytes, float64(b.sent), direction)
		to.put(receivedBytes, float64(b.received), direction)
	}
	for _, direction := range carried {
		to.put(liveConnections, float64(now[direction]), direction)
	}
	to.byReason(lostReports, sums.Lost)
	to.put(droppedFlows, float64(sums.Dropped))
}

// grown is a sum that never falls: a connection that ends between two readings is missing
// in this one, and a counter that falls would be taken for a restart.
func (c *collector) grown(direction string, b volume) volume {
	last := c.bytes[direction]
	b = volume{max(b.sent, last.sent), max(b.received, last.received)}
	c.bytes[direction] = b
	return b
}

func (c *collector) lanes(to sink, s *api.Status) {
	type end struct{ peer, direction string }
	count := map[end]int{}
	for _, l := range s.Lanes {
		count[end{path.Base(l.Peer), l.Direction}]++
	}
	for e, n := range count {
		to.put(lanes, float64(n), e.peer, e.direction)
	}
	to.byReason(lanesCut, s.LanePort.Cut)
	to.byReason(laneRefused, s.LanePort.Refused)
	to.put(laneUnproven, float64(s.LanePort.Unproven))
}

// certificates tells of each identity's certificate that ends first.
func (c *collector) certificates(to sink, all []api.Certificate) {
	first := map[string]api.Certificate{}
	for _, cert := range all {
		if old, ok := first[cert.ID]; !ok || cert.NotAfter.Before(old.NotAfter) {
			first[cert.ID] = cert
		}
	}
	for id, cert := range first {
		to.put(certificateEnd, float64(cert.NotAfter.Unix()), id)
		if !cert.RenewAt.IsZero() {
			to.put(certificateRenew, float64(cert.RenewAt.Unix()), id)
		}
	}
}

func (c *collector) members(to sink, ctx context.Context, s *api.Status) {
	list, err := c.from.Nodes(ctx)
	if err != nil {
		to.fails(members, err)
		return
	}
	alive, same := 0, 0
	for _, n := range list {
		if n.Alive {
			alive++
		}
		if s.Digest != "" && n.PolicyDigest == s.Digest {
			same++
		}
	}
	to.put(members, float64(alive), "alive")
	to.put(members, float64(len(list)-alive), "silent")
	to.put(membersInForce, float64(same))
}

// room leaves out each service's share of the connections on their way: the check limits
// watches those.
func (c *collector) room(to sink) {
	rooms, err := c.from.Room(nil)
	if err != nil {
		to.fails(mapEntries, err)
		return
	}
	for _, r := range rooms {
		to.put(mapEntries, float64(r.Used), r.What)
		to.put(mapLimit, float64(r.Of), r.What)
	}
}
