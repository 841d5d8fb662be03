// SPDX-License-Identifier: Apache-2.0

package soak

import (
	"fmt"
	"math/bits"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tacit/internal/testhost"
)

const services = 8

// TestAttribution: many short connections among eight services on two nodes,
// by ports that are used again at once, while other workloads and intentions
// come and go. Each connection carries its true caller's name to the server.
// What a node knows of it is compared: the flow record that names the address
// from which the server was called, and the record of a refusal that names the
// calling process. Same-node connections from program to program have no
// record; for them, as for all, policy is the witness: of any two services,
// exactly half of the destinations tell one from the other.
func TestAttribution(t *testing.T) {
	b := newAttributionBed(t)
	stop := b.churn()
	began := time.Now()
	for i := range services {
		b.callers[i] = b.m.start(b.host(i), cgroupOf(service(i)), b.plan(i))
	}
	stopProgress := progress(t, b.progress)
	for i, p := range b.callers {
		if p.Wait(t, 30*time.Minute) != 0 {
			t.Fatalf("caller %d: %s", i, tail(p.Output()))
		}
	}
	took := time.Since(began)
	stopProgress()
	changes := stop()
	b.settle()
	v := b.judge()
	figure(t, "attribution: time", "%.0f s, %.0f connections/s", took.Seconds(), float64(v.answered)/took.Seconds())
	figure(t, "attribution: changes to other workloads and intentions meanwhile", "%d", changes)
	v.report(t, size(4000, 200_000))
}

// attributionBed has services 0 to 3 on host1 and 4 to 7 on host2.
type attributionBed struct {
	t       *testing.T
	m       *mesh
	servers [services]*testhost.Process
	callers [services]*testhost.Process
	targets [services][]target // of each caller
	flows   [2]*testhost.Process
}

func service(i int) string { return fmt.Sprintf("svc%d", i) }

// allowed is a row of a Hadamard matrix: any two rows differ in half the places.
func allowed(from, to int) bool { return bits.OnesCount(uint(from&to))%2 == 0 }

func (b *attributionBed) host(i int) *testhost.Host {
	if i < services/2 {
		return b.m.host1
	}
	return b.m.host2
}

func (b *attributionBed) hosts() []*testhost.Host { return []*testhost.Host{b.m.host1, b.m.host2} }

func newAttributionBed(t *testing.T) *attributionBed {
	t.Helper()
	granted := []string{"churn1", "churn2", "churn3"}
	for i := services / 2; i < services; i++ {
		granted = append(granted, service(i))
	}
	b := &attributionBed{t: t}
	b.m = newMesh(t, testhost.NewNet(t), func(h *testhost.Host) { // few ports, again at once
		for key, value := range map[string]string{"ip_local_port_range": "20000 22999", "tcp_tw_reuse": "1"} {
			if err := h.Sysctl("net/ipv4/"+key, value); err != nil {
				t.Fatal(err)
			}
		}
	}, granted...)
	for i := range services {
		b.servers[i] = b.m.server(b.host(i), service(i), 7000+i, "127.0.0.1")
	}
	for from := range services {
		for to := range services {
			if from == to {
				continue
			}
			verb := "deny"
			if allowed(from, to) {
				verb = "allow"
			}
			if verb == "allow" || from < services/2 { // the other denials are the default's
				b.m.tacit(b.m.host1, "intention", verb, service(from), service(to))
			}
		}
	}
	b.m.tacit(b.m.host1, "intention", "allow", "churn1", "churn2", "--wait", "--timeout", "30s")
	b.findTargets()
	for i, h := range b.hosts() {
		b.flows[i] = h.Start(t, "user", h.Bin("tacit"), "flows", "--follow", "--json")
	}
	return b
}

// findTargets: remote services by IPv4, those of the same node also by a
// socket that only the daemon can serve. Denied ones are called less often.
func (b *attributionBed) findTargets() {
	for i, h := range b.hosts() {
		for to := range services {
			v4, v6 := b.m.virtual(h, service(to))
			here := b.host(to) == h
			for from := i * services / 2; from < (i+1)*services/2; from++ {
				if from == to {
					continue
				}
				weight := 1
				if allowed(from, to) {
					weight = 4
				}
				at := func(a netip.Addr) netip.AddrPort { return netip.AddrPortFrom(a, uint16(7000+to)) }
				b.targets[from] = append(b.targets[from], target{Name: service(to), Addr: at(v4), Weight: weight})
				if here {
					b.targets[from] = append(b.targets[from], target{Name: service(to), Addr: at(v6), V6Only: true, Weight: weight})
				}
			}
		}
	}
}

func (b *attributionBed) plan(i int) plan {
	return plan{Name: service(i), Targets: b.targets[i], Count: size(4000, 200_000) / services, Workers: 4,
		Ports: [2]int{30000, 30100}, Seed: uint64(i)}
}

// churn changes intentions of other pairs, and lets other workloads come and
// go, on both nodes; the function returned ends it.
func (b *attributionBed) churn() (stop func() int) {
	done, ended := make(chan struct{}), make(chan struct{})
	var changes atomic.Int64
	go func() {
		defer close(ended)
		for n := 0; ; n++ {
			select {
			case <-done:
				return
			default:
			}
			h, name := b.hosts()[n%2], fmt.Sprintf("churn%d", n/2%3+1)
			b.m.tacit(h, "run", name, "--", "true")
			b.m.tacit(b.m.host1, "intention", []string{"allow", "deny"}[n/6%2], name, fmt.Sprintf("churn%d", n%3+1))
			b.m.tacit(b.m.host1, "intention", []string{"allow", "deny"}[n%2], name, service(n%services))
			b.m.tacit(h, "service", "deregister", name)
			changes.Add(4)
		}
	}()
	return func() int { close(done); <-ended; return int(changes.Load()) }
}

func (b *attributionBed) progress() string {
	n := 0
	for _, p := range b.callers {
		n += strings.Count(p.Output(), " ok\n")
	}
	return fmt.Sprintf("%d of %d connections", n, size(4000, 200_000))
}

// settle waits until both nodes have told of every connection that has ended.
func (b *attributionBed) settle() {
	b.t.Helper()
	for i, h := range b.hosts() {
		testhost.Eventually(b.t, 30*time.Second, h.Name+" has told all", func() error {
			out := b.m.tacit(h, "flows", "--json")
			if strings.Contains(out, `"live": true`) {
				return fmt.Errorf("connections live on")
			}
			at := strings.LastIndex(out, `"last": `)
			last := strings.TrimRight(out[at+len(`"last": `):], " \n}")
			if !strings.Contains(b.flows[i].Output(), `"seq":`+last+",") && last != "0" {
				return fmt.Errorf("record %s isn't followed yet", last)
			}
			return nil
		})
		b.flows[i].Signal(syscall.SIGTERM)
		b.flows[i].Wait(b.t, 10*time.Second)
	}
}

func tail(text string) string { return text[max(0, len(text)-400):] }
