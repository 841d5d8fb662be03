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

// TestAttribution makes many short connections among eight services on two nodes,
// from ports that are reused at once, while other workloads and intentions come
// and go. Each connection tells the server its true caller. That is compared with
// what the nodes recorded: the flow record with the address from which the server
// was called, and the refusal record with the calling process. Direct connections
// on one node have no record. For them, as for all, the intentions are the check:
// any two services are treated differently by exactly half of the destinations.
func TestAttribution(t *testing.T) {
	f := newAttributionFixture(t)
	stop := f.churn()
	began := time.Now()
	for i := range services {
		f.callers[i] = startCaller(t, f.host(i), testhost.WorkloadCgroup(service(i)), f.plan(i))
	}
	stopProgress := progress(t, f.progress)
	for i, p := range f.callers {
		if p.Wait(t, 30*time.Minute) != 0 {
			t.Fatalf("caller %d: %s", i, tail(p.Output()))
		}
	}
	took := time.Since(began)
	stopProgress()
	changes := stop()
	f.settle()
	v := f.judge()
	figure(t, "attribution: time", "%.0f s, %.0f connections/s", took.Seconds(), float64(v.answered)/took.Seconds())
	figure(t, "attribution: changes to other workloads and intentions meanwhile", "%d", changes)
	v.report(t, size(4000, 200_000))
}

// attributionFixture has services 0 to 3 on host1 and 4 to 7 on host2.
type attributionFixture struct {
	t       *testing.T
	hosts   []*testhost.Host // host1, host2
	servers [services]*testhost.Process
	callers [services]*testhost.Process
	targets [services][]target // of each caller
	flows   [2]*testhost.Process
}

func service(i int) string { return fmt.Sprintf("svc%d", i) }

// allowed is an entry of a Hadamard matrix: any two rows differ in half of them.
func allowed(from, to int) bool { return bits.OnesCount(uint(from&to))%2 == 0 }

func (f *attributionFixture) host(i int) *testhost.Host {
	if i < services/2 {
		return f.hosts[0]
	}
	return f.hosts[1]
}

func newAttributionFixture(t *testing.T) *attributionFixture {
	t.Helper()
	granted := []string{"churn1", "churn2", "churn3"}
	for i := services / 2; i < services; i++ {
		granted = append(granted, service(i))
	}
	mesh := testhost.NewMesh(t, testhost.MeshOptions{Nodes: 2, Grants: granted, Flags: quiet(), Prepare: func(m *testhost.Mesh) {
		for _, h := range m.Nodes { // few ports, each free again soon
			testhost.Must(t, h.Sysctl("net/ipv4/ip_local_port_range", "20000 22999"))
			testhost.Must(t, h.Sysctl("net/ipv4/tcp_tw_reuse", "1"))
		}
	}})
	f := &attributionFixture{t: t, hosts: mesh.Nodes}
	for i := range services {
		f.servers[i] = startServer(t, f.host(i), service(i), 7000+i, "127.0.0.1")
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
			if verb == "allow" || from < services/2 { // the others are denied by default
				f.hosts[0].Tacit(t, "intention", verb, service(from), service(to))
			}
		}
	}
	f.hosts[0].Tacit(t, "intention", "allow", "churn1", "churn2", "--wait", "--timeout", "30s")
	f.findTargets()
	for i, h := range f.hosts {
		f.flows[i] = h.Start(t, "user", h.Bin("tacit"), "flows", "--follow", "--json")
	}
	return f
}

// findTargets: services are called by IPv4, those of the same node also by IPv6-only
// sockets, whose connections the daemon has to carry. Denied ones are called less
// often.
func (f *attributionFixture) findTargets() {
	for i, h := range f.hosts {
		for to := range services {
			v4, v6 := h.Virtual(f.t, service(to))
			here := f.host(to) == h
			for from := i * services / 2; from < (i+1)*services/2; from++ {
				if from == to {
					continue
				}
				weight := 1
				if allowed(from, to) {
					weight = 4
				}
				at := func(a netip.Addr) netip.AddrPort { return netip.AddrPortFrom(a, uint16(7000+to)) }
				f.targets[from] = append(f.targets[from], target{Name: service(to), Addr: at(v4), Weight: weight})
				if here {
					f.targets[from] = append(f.targets[from], target{Name: service(to), Addr: at(v6), V6Only: true, Weight: weight})
				}
			}
		}
	}
}

func (f *attributionFixture) plan(i int) plan {
	return plan{Name: service(i), Targets: f.targets[i], Count: size(4000, 200_000) / services, Workers: 4,
		Ports: [2]int{30000, 30100}, Seed: uint64(i)}
}

// churn changes intentions of other pairs, and adds and removes other workloads, on
// both nodes; stop ends it and returns the number of changes.
func (f *attributionFixture) churn() (stop func() int) {
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
			h, name := f.hosts[n%2], fmt.Sprintf("churn%d", n/2%3+1)
			h.MakeWorkload(f.t, name)
			f.hosts[0].Tacit(f.t, "intention", []string{"allow", "deny"}[n/6%2], name, fmt.Sprintf("churn%d", n%3+1))
			f.hosts[0].Tacit(f.t, "intention", []string{"allow", "deny"}[n%2], name, service(n%services))
			h.Tacit(f.t, "service", "deregister", name)
			changes.Add(4)
		}
	}()
	return func() int { close(done); <-ended; return int(changes.Load()) }
}

func (f *attributionFixture) progress() string {
	n := 0
	for _, p := range f.callers {
		n += strings.Count(p.Output(), " ok\n")
	}
	return fmt.Sprintf("%d of %d connections", n, size(4000, 200_000))
}

// settle waits until both nodes have recorded the end of every connection.
func (f *attributionFixture) settle() {
	f.t.Helper()
	for i, h := range f.hosts {
		testhost.Eventually(f.t, 30*time.Second, h.Name+" has recorded all", func() error {
			out := h.Tacit(f.t, "flows", "--json")
			if strings.Contains(out, `"live": true`) {
				return fmt.Errorf("connections are still live")
			}
			at := strings.LastIndex(out, `"last": `)
			last := strings.TrimRight(out[at+len(`"last": `):], " \n}")
			if !strings.Contains(f.flows[i].Output(), `"seq":`+last+",") && last != "0" {
				return fmt.Errorf("record %s isn't shown yet", last)
			}
			return nil
		})
		f.flows[i].Signal(syscall.SIGTERM)
		f.flows[i].Wait(f.t, 10*time.Second)
	}
}

func tail(text string) string { return text[max(0, len(text)-400):] }
