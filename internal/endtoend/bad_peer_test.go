// SPDX-License-Identifier: Apache-2.0

package endtoend

import (
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"tacit/identity"
	"tacit/internal/testhost"
	"tacit/tproxy/record"
)

const (
	frameCredit = 7
	framePing   = 8
	largest     = 16_376 // payload of a frame
)

// assault is something that a member does on a lane of its own, having proven web, and
// why the lane must be cut.
type assault struct {
	name, cut string
	reads     bool
	does      func(*spoken)
}

// many sends n frames, as many to a record as there is room for, until the lane is cut.
// With a rate, it sends so many a second.
func (s *spoken) many(n, rate int, frames func(stream uint32) []byte) {
	var rec []byte
	begin := time.Now()
	for i := range n {
		f := frames(s.stream)
		s.stream++
		if len(rec)+len(f) > largest {
			if _, err := s.Write(rec); err != nil {
				return
			}
			rec = rec[:0]
			if rate > 0 {
				<-time.After(time.Until(begin.Add(time.Duration(i) * time.Second / time.Duration(rate))))
			}
		}
		rec = append(rec, f...)
	}
	_, _ = s.Write(rec)
}

// stream1 opens a stream for an operation of the program.
func stream1(operation string) []byte {
	return append(opening(1, "web"), frame(frameData, 1, []byte(operation+"\n"))...)
}

func grant(n uint32) []byte { return frame(frameCredit, 1, binary.BigEndian.AppendUint32(nil, n)) }

// neverReads has the program send as much as it can, and says something all the time.
func neverReads(s *spoken) {
	_, err := s.Write(append(stream1("flood"), grant(1<<29)...))
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for ; err == nil; _, err = s.Write(grant(1)) {
		<-tick.C
	}
}

// ignoresCredit sends to a program that doesn't read.
func ignoresCredit(s *spoken) {
	_, err := s.Write(stream1("put 100000000 60000"))
	full := frame(frameData, 1, make([]byte, largest))
	for n := 0; n < 64<<20 && err == nil; n += largest {
		_, err = s.Write(full)
	}
}

func (s *spoken) writes(b ...byte) { _, _ = s.Write(b) }

// changesKeys changes the key with each record; crypto/tls can't be made to.
func (p *patched) changesKeys(*spoken) {
	raw, err := p.from.Dial("tcp", net.JoinHostPort(p.to.Addr.String(), "7947"))
	testhost.Must(p.t, err)
	defer raw.Close()
	conn, err := record.Client(raw, identity.ClientTLS(p.node, identity.ALPNLane, identity.NodeID(p.ca.TrustDomain(), identity.Name(p.to.Name)), nil))
	testhost.Must(p.t, err)
	testhost.Must(p.t, conn.HandshakeContext(p.t.Context()))
	layer, _, err := record.Take(conn)
	testhost.Must(p.t, err)
	rec := make([]byte, 256)
	for range 1000 {
		n, err := layer.Update(rec)
		testhost.Must(p.t, err)
		k := copy(rec[n+record.HeaderSize:], frame(framePing, 0, nil))
		m, err := layer.Seal(rec[n:], k)
		testhost.Must(p.t, err)
		if _, err := raw.Write(rec[:n+m]); err != nil {
			return
		}
	}
}

func (p *patched) assaults() []assault {
	return []assault{
		{"opens 100,000 streams", "limit", true, func(s *spoken) {
			s.many(100_000, 0, func(n uint32) []byte { return opening(n, "web") })
		}},
		{"opens and resets 10,000 streams a second", "limit", true, func(s *spoken) {
			s.many(100_000, 10_000, func(n uint32) []byte { return append(opening(n, "web"), frame(frameReset, n, nil)...) })
		}},
		{"ignores credit", "protocol", true, ignoresCredit},
		{"sends an oversized frame", "protocol", true, func(s *spoken) { s.writes(frameData, 0, 0xff, 0xff, 0, 0, 0, 1) }},
		{"sends a part of a frame", "protocol", true, func(s *spoken) { s.writes(frameData, 0, 0, 9, 0, 0, 0, 1, 'x') }},
		{"floods changes of its key", "protocol", true, p.changesKeys},
		{"sends a part of a record", "slow", true, func(s *spoken) { _, _ = s.NetConn().Write([]byte{23, 3, 3, 0x40, 0, 'x'}) }},
		{"never reads", "slow", false, neverReads},
	}
}

// begin starts an assault on a lane of its own. The lane ends with the test.
func (p *patched) begin(a assault, proof func(*spoken) []byte) {
	p.t.Helper()
	s, err := p.lane(p.node)
	testhost.Must(p.t, err)
	_ = s.SetDeadline(time.Now().Add(time.Minute))
	s.stream = 1
	_, err = s.Write(proof(s))
	testhost.Must(p.t, err)
	var work sync.WaitGroup
	if a.reads {
		work.Go(func() { swallow(s.Conn) })
	}
	work.Go(func() { a.does(s) })
	p.t.Cleanup(func() {
		_ = s.NetConn().Close()
		work.Wait()
	})
}

func swallow(conn *tls.Conn) {
	b := make([]byte, 1<<16)
	for {
		if _, err := conn.Read(b); err != nil {
			return
		}
	}
}

// resident is the most memory that a host's daemon has ever had, in MiB.
func resident(t *testing.T, h *testhost.Host) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.Current(t).PID()))
	testhost.Must(t, err)
	_, peak, _ := strings.Cut(string(status), "VmHWM:")
	n, err := strconv.Atoi(strings.Fields(peak)[0])
	testhost.Must(t, err)
	return n >> 10
}

// cutBy is how many lanes a host has cut, by reason; it may be unhealthy at present.
func cutBy(t *testing.T, h *testhost.Host) map[string]uint64 {
	t.Helper()
	out, _ := h.TryTacit(t, "status", "--json")
	return jsonOf[struct {
		LanePort lanePort `json:"lane_port"`
	}](t, out).LanePort.Cut
}

// pings are small questions of another member on 16 connections; each must be answered.
func pings(t *testing.T, h *testhost.Host, addr string) (p99 time.Duration) {
	t.Helper()
	out, exit := h.RunAs(t, "web", h.Bin("probe"), "streams", addr, "16", "ping", "300")
	if exit != 0 || !strings.Contains(out, "ended ok=16 ") {
		t.Errorf("another member's calls: exit %d, %s", exit, out)
	}
	for word := range strings.FieldsSeq(out) {
		if us, ok := strings.CutPrefix(word, "p99="); ok {
			n, err := strconv.Atoi(us)
			testhost.Must(t, err)
			p99 = max(p99, time.Duration(n)*time.Microsecond)
		}
	}
	return p99
}

// TestBadPeer: a member that does what no honest one does is cut with the reason, within
// seconds. The node's memory stays small, and another member's calls are answered.
func TestBadPeer(t *testing.T) {
	m := testhost.NewMesh(t, testhost.MeshOptions{Nodes: 3, Grants: []string{"db", "web"}})
	host1, host2, host3 := m.Nodes[0], m.Nodes[1], m.Nodes[2]
	host2.Tacit(t, "service", "register", "db", "--port", "7000")
	host2.StartAs(t, "db", host2.Bin("probe"), "streams-listen", "0.0.0.0:7000")
	host2.AwaitListener(t, 7000)
	host1.MakeWorkload(t, "web")
	host1.Tacit(t, "intention", "allow", "web", "db", "--wait")
	ca, err := identity.LoadAuthority(filepath.Join(host1.State, "authority"), time.Hour)
	testhost.Must(t, err)
	key, err := identity.NewKey()
	testhost.Must(t, err)
	p := &patched{t: t, from: host3, to: host2, ca: ca, node: credentialsOf(t, host3, host1), key: key}
	web := identity.ServiceID(ca.TrustDomain(), "web")
	chain := p.forge(key, web, nil)
	virtual, _ := host1.Virtual(t, "db")
	addr := virtual.String() + ":7000"
	testhost.Eventually(t, 10*time.Second, "db is reached", func() error {
		return succeeded(host1.RunAs(t, "web", host1.Bin("probe"), "streams", addr, "1", "ping", "1"))
	})
	alone, before := pings(t, host1, addr), descriptors(t, host2)
	t.Logf("another member's p99 alone: %s; the daemon has %d MiB", alone, resident(t, host2))
	for _, a := range p.assaults() {
		cut, begin := cutBy(t, host2)[a.cut], time.Now()
		p.begin(a, func(s *spoken) []byte {
			return p.prove(chain, identity.RoleClient, s.channel, identity.RoleClient, web)
		})
		beside := pings(t, host1, addr)
		testhost.Eventually(t, 10*time.Second, a.name+": cut", func() error {
			if got := cutBy(t, host2); got[a.cut] <= cut {
				return fmt.Errorf("cut %v, want one more %s", got, a.cut)
			}
			return nil
		})
		took := time.Since(begin)
		t.Logf("%s: cut after %s at most, another member's p99 %s (%.1f × alone), at most %d MiB", a.name, took.Round(time.Millisecond), beside,
			float64(beside)/float64(alone), resident(t, host2))
		if late(took, 5*time.Second) {
			t.Errorf("%s: cut after %s", a.name, took)
		}
	}
	if log := host2.Current(t).Output(); strings.Contains(log, "event loop") {
		t.Errorf("an event loop was stuck:\n%s", log)
	}
	if peak := resident(t, host2); peak > 256 {
		t.Errorf("the daemon had %d MiB", peak)
	}
	testhost.Eventually(t, 10*time.Second, "what they took is given back", func() error {
		if n := descriptors(t, host2); n > before+8 {
			return fmt.Errorf("%d descriptors, before %d", n, before)
		}
		return nil
	})
}
