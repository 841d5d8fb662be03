// SPDX-License-Identifier: Apache-2.0

package endtoend

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tacit/identity"
	"tacit/internal/testhost"
)

// credentials are what a node shows in handshakes: those of its daemon, read from
// its state, or others.
type credentials struct {
	svid   *identity.SVID
	bundle *identity.Bundle
}

func (c credentials) NodeSVID() *identity.SVID { return c.svid }
func (c credentials) Bundle() *identity.Bundle { return c.bundle }

func credentialsOf(t *testing.T, h, authority *testhost.Host) credentials {
	t.Helper()
	key, err := identity.LoadKey(filepath.Join(h.State, "node.key"))
	testhost.Must(t, err)
	svid, err := identity.LoadSVID(filepath.Join(h.State, "node.crt"), key)
	testhost.Must(t, err)
	a, err := identity.LoadAuthority(filepath.Join(authority.State, "authority"), time.Hour)
	testhost.Must(t, err)
	return credentials{svid, a.Bundle()}
}

// handshake with the lane port of a node, from another one.
func (c credentials) handshake(from, to *testhost.Host, alpn string) (*tls.Conn, error) {
	raw, err := from.Dial("tcp", net.JoinHostPort(to.Addr.String(), "7947"))
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, identity.ClientTLS(c, alpn, identity.NodeID(c.bundle.TrustDomain(), identity.Name(to.Name)), nil))
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if err := conn.Handshake(); err != nil {
		_ = raw.Close()
		return nil, err
	}
	return conn, nil
}

// lanePort is what status says of the lane port.
type lanePort struct {
	Unproven     int
	Refused, Cut map[string]uint64
}

func lanePortOf(t *testing.T, h *testhost.Host) lanePort {
	t.Helper()
	return jsonOf[struct {
		LanePort lanePort `json:"lane_port"`
	}](t, h.Tacit(t, "status", "--json")).LanePort
}

// TestAnyoneStopsANode: 10,000 connections that are slow or silent, from 10
// addresses without credentials, neither keep members and new nodes out, nor take
// many descriptors, nor fill the log; each refusal is counted.
func TestAnyoneStopsANode(t *testing.T) {
	m := testhost.NewMesh(t, testhost.MeshOptions{Nodes: 2})
	host1, host2, attacker := m.Nodes[0], m.Nodes[1], m.Host(t, "attacker")
	var from []string
	for i := range 10 {
		a := attacker.Addr.As4()
		a[3] = byte(101 + i)
		from = append(from, fmt.Sprintf("%d.%d.%d.%d", a[0], a[1], a[2], a[3]))
	}
	attacker.Sh(t, "for a in "+strings.Join(from, " ")+"; do ip addr add $a/24 dev eth0; done")
	me := credentialsOf(t, host2, host1)
	logged, cpu, begin := logLines(t, host1), cpuTime(t, host1), time.Now()
	flood := attacker.Start(t, "user", attacker.Bin("probe"), "flood", net.JoinHostPort(host1.Addr.String(), "7947"), "10000", strings.Join(from, ","))
	testhost.Eventually(t, 30*time.Second, "10,000 connections", func() error {
		if n := made(flood); n < 10_000 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	var took []time.Duration
	most := 0
	for range 200 {
		start := time.Now()
		conn, err := me.handshake(host2, host1, identity.ALPNHere)
		if err != nil {
			t.Fatalf("a member's handshake %d: %v", len(took), err)
		}
		took = append(took, time.Since(start))
		_ = conn.Close()
		most = max(most, descriptors(t, host1))
	}
	m.Join(t, "host3")
	seconds := time.Since(begin).Seconds()
	kill(flood)

	slices.Sort(took)
	p99 := took[len(took)*99/100]
	t.Logf("handshakes p50 %s, p99 %s, max %s; %d descriptors; %.1f log lines a second; %.0f %% of a CPU; %d connections in %.1f s",
		took[len(took)/2], p99, took[len(took)-1], most, float64(logLines(t, host1)-logged)/seconds,
		100*(cpuTime(t, host1)-cpu).Seconds()/seconds, made(flood), seconds)
	if late(p99, time.Second) {
		t.Errorf("p99 is %s", p99)
	}
	if most > 2000 {
		t.Errorf("%d descriptors", most)
	}
	if n := logLines(t, host1) - logged; float64(n) > 10*seconds {
		t.Errorf("%d log lines in %.1f s:\n%s", n, seconds, host1.Current(t).Output())
	}
	testhost.Eventually(t, 20*time.Second, "every connection is counted", func() error {
		p := lanePortOf(t, host1)
		if sum := p.Refused["share"] + p.Refused["limit"] + p.Refused["slow"] + p.Refused["handshake"]; p.Unproven > 0 || sum < uint64(made(flood)) {
			return fmt.Errorf("%d of %d: %+v", sum, made(flood), p)
		}
		return nil
	})
}

// made is how many connections a flood says that it made.
func made(flood *testhost.Process) (n int) {
	_, _ = fmt.Sscanf(lastLine(flood.Output()), "made %d", &n)
	return n
}

// logLines are how many a daemon has written.
func logLines(t *testing.T, h *testhost.Host) int {
	t.Helper()
	return strings.Count(h.Current(t).Output(), "\n")
}

func descriptors(t *testing.T, h *testhost.Host) int {
	t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", h.Current(t).PID()))
	testhost.Must(t, err)
	return len(list)
}
