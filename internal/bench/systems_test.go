// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// The ports of the servers, and what a pair of proxies adds for the port between
// the hosts.
const (
	httpPort  = 8080
	iperfPort = 5201
	nearPort  = 8090 // of the server on the client's own host
	between   = 1000
)

// system is a way from a client on one host to the servers on another, brought up
// on two hosts of its own.
type system struct {
	name           string
	client, server *testhost.Host
	far, near      netip.Addr // where the client finds the servers; near is zero where there is none
}

// proxied are the cgroups, below a host's own, of what is measured: where daemons
// start, and where tacitd and its children go from there.
var proxied = []string{"init", "tacit"}

func (s *system) farPort(port uint16) string  { return netip.AddrPortFrom(s.far, port).String() }
func (s *system) nearPort(port uint16) string { return netip.AddrPortFrom(s.near, port).String() }

// start brings a system up and waits until a request is answered.
func start(b testing.TB, name string) *system {
	b.Helper()
	s := bring(b, name)
	s.join(b)
	return s
}

// startOver is start with a bad cable between the hosts.
func startOver(b testing.TB, name string, c testhost.Cable) *system {
	b.Helper()
	s := bring(b, name)
	b.Cleanup(s.server.Replace(b, c))
	s.join(b)
	return s
}

// bring makes the hosts, with their servers.
func bring(b testing.TB, name string) *system {
	b.Helper()
	s := &system{name: name}
	if name == Tacit {
		s.startTacit(b)
	} else {
		net := testhost.NewNet(b)
		s.client, s.server = net.Host(b, "host1"), net.Host(b, "host2")
		s.startServers(b)
	}
	return s
}

// join brings up what is between the client and the servers.
func (s *system) join(b testing.TB) {
	b.Helper()
	switch s.name {
	case Direct:
		s.far, s.near = s.server.Addr, loopback()
	case HAProxy, Nginx:
		s.far = loopback()
		s.startPair(b, map[string]func(testing.TB, pairSide){HAProxy: startHAProxy, Nginx: startNginx}[s.name])
	}
	s.ready(b, s.farPort(httpPort))
	if s.far.IsLoopback() {
		s.refusesClear(b)
	}
	if s.near.IsValid() {
		s.ready(b, s.nearPort(nearPort))
	}
}

func loopback() netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, 1}) }

// startServers also gives the hosts the settings that keep short connections from
// running out of ports, and a congestion control that doesn't pace.
func (s *system) startServers(b testing.TB) {
	b.Helper()
	for _, h := range []*testhost.Host{s.client, s.server} {
		testhost.Must(b, h.Sysctl("net/ipv4/ip_local_port_range", "10000 65000"))
		testhost.Must(b, h.Sysctl("net/ipv4/tcp_tw_reuse", "1"))
		if h.Sysctl("net/ipv4/tcp_congestion_control", "cubic") != nil { // a namespace may not use all of them
			testhost.Must(b, h.Sysctl("net/ipv4/tcp_congestion_control", "reno"))
		}
	}
	s.server.Start(b, "load", self(b), "load", "serve", fmt.Sprintf(":%d", httpPort))
	s.client.Start(b, "near", self(b), "load", "serve", fmt.Sprintf(":%d", nearPort))
	s.client.Run(b, "load", "true") // makes the cgroup
	s.server.AwaitListener(b, httpPort)
	s.client.AwaitListener(b, nearPort)
}

// serveBulk starts the server of iperf3, which only the benchmark needs.
func (s *system) serveBulk(b testing.TB) {
	b.Helper()
	s.server.Start(b, "load", "iperf3", "-s", "-p", fmt.Sprint(iperfPort))
	s.server.AwaitListener(b, iperfPort)
	testhost.Eventually(b, 10*time.Second, s.name+" carries bytes", func() error {
		out, _, exit := s.client.Output(b, "load", "iperf3", "-c", s.far.String(), "-p", fmt.Sprint(iperfPort), "-n", "1")
		if exit != 0 {
			return errors.New(out)
		}
		return nil
	})
}

func self(b testing.TB) string {
	b.Helper()
	path, err := os.Executable()
	testhost.Must(b, err)
	return path
}

// ready waits for an answer.
func (s *system) ready(b testing.TB, address string) {
	b.Helper()
	testhost.Eventually(b, 15*time.Second, s.name+" carries a request", func() error {
		if got := s.call(b, address, 1, 1, 5); got.Calls == 0 {
			return fmt.Errorf("%s: %s", address, got.LastError)
		}
		return nil
	})
}

// refusesClear checks that a pair answers nobody in clear between the hosts.
func (s *system) refusesClear(b testing.TB) {
	b.Helper()
	middle := netip.AddrPortFrom(s.server.Addr, httpPort+between).String()
	if got := s.call(b, middle, 1, 1, 5); got.Calls != 0 || !strings.HasPrefix(got.LastError, "read:") {
		b.Fatalf("%s answers in clear at %s: %+v", s.name, middle, got)
	}
}

func (s *system) startTacit(b testing.TB) {
	b.Helper()
	m := testhost.NewMesh(b, testhost.MeshOptions{Nodes: 2, Grants: []string{"bench"}, Flags: []string{"--log-level", "warn"}})
	s.client, s.server = m.Nodes[0], m.Nodes[1]
	s.startServers(b)
	register := func(h *testhost.Host, service, cgroup string, port int) {
		h.Tacit(b, "service", "register", service, "--id", fmt.Sprintf("%s-%d", service, port), "--port", fmt.Sprint(port), "--cgroup", h.CgroupPath(cgroup))
	}
	register(s.server, "bench", "load", httpPort)
	register(s.server, "bench", "load", iperfPort)
	register(s.client, "near", "near", nearPort)
	s.client.Tacit(b, "service", "register", "client", "--cgroup", s.client.CgroupPath("load"))
	s.far, _ = s.client.Virtual(b, "bench")
	s.near, _ = s.client.Virtual(b, "near")
	s.client.Tacit(b, "intention", "allow", "client", "bench", "--wait")
	s.client.Tacit(b, "intention", "allow", "client", "near", "--wait")
}

// pairSide is one of two proxies that carry the servers' ports in mutual TLS.
type pairSide struct {
	host   *testhost.Host
	far    bool                          // it runs beside the servers
	listen func(port int) netip.AddrPort // where it listens for a server's port
	to     func(port int) netip.AddrPort // where it leads that
	certs  certificates
}

// startPair starts a proxy on each host: the client's listens on loopback and the
// server's on the network.
func (s *system) startPair(b testing.TB, proxy func(testing.TB, pairSide)) {
	b.Helper()
	at := func(addr netip.Addr, add int) func(int) netip.AddrPort {
		return func(port int) netip.AddrPort { return netip.AddrPortFrom(addr, uint16(port+add)) }
	}
	middle := at(s.server.Addr, between)
	certs := newCertificates(b, s.client.Net().Dir())
	proxy(b, pairSide{s.server, true, middle, at(loopback(), 0), certs})
	proxy(b, pairSide{s.client, false, at(loopback(), 0), middle, certs})
}

func startHAProxy(b testing.TB, p pairSide) {
	b.Helper()
	tls := fmt.Sprintf("ssl crt %s ca-file %s verify required ssl-min-ver TLSv1.3", p.certs.both(p.far), p.certs.authority())
	in, out := "", " sni str("+farName+") verifyhost "+farName+" "+tls
	if p.far {
		in, out = " "+tls, ""
	}
	conf := "global\n maxconn 4000\ndefaults\n mode tcp\n timeout connect 5s\n timeout client 1h\n timeout server 1h\n"
	for _, port := range []int{httpPort, iperfPort} {
		conf += fmt.Sprintf("listen port%d\n bind %s%s\n server next %s%s\n", port, p.listen(port), in, p.to(port), out)
	}
	path := filepath.Join(p.host.Dir, "haproxy.cfg")
	testhost.WriteFile(b, path, conf)
	p.host.Start(b, "init", "haproxy", "-db", "-f", path)
}

func startNginx(b testing.TB, p pairSide) {
	b.Helper()
	tls := "proxy_ssl on; proxy_ssl_protocols TLSv1.3; proxy_ssl_verify on; proxy_ssl_name " + farName + "; proxy_ssl_server_name on;" +
		fmt.Sprintf("proxy_ssl_certificate %s; proxy_ssl_certificate_key %s; proxy_ssl_trusted_certificate %s;", p.certs.cert(false), p.certs.key(false), p.certs.authority())
	in := ""
	if p.far {
		in, tls = " ssl", "ssl_protocols TLSv1.3; ssl_verify_client on;"+
			fmt.Sprintf("ssl_certificate %s; ssl_certificate_key %s; ssl_client_certificate %s;", p.certs.cert(true), p.certs.key(true), p.certs.authority())
	}
	conf := "load_module " + nginxStream + ";\ndaemon off;\nworker_processes auto;\npid " + filepath.Join(p.host.Dir, "nginx.pid") + ";\n" +
		"worker_rlimit_nofile 10000;\nevents { worker_connections 4500; }\nstream {\nproxy_timeout 1h;\nproxy_half_close on;\n" + tls + "\n"
	for _, port := range []int{httpPort, iperfPort} {
		conf += fmt.Sprintf("server { listen %s%s backlog=4096; proxy_pass %s; }\n", p.listen(port), in, p.to(port))
	}
	path := filepath.Join(p.host.Dir, "nginx.conf")
	testhost.WriteFile(b, path, conf+"}\n")
	p.host.Start(b, "init", "nginx", "-p", p.host.Dir, "-e", filepath.Join(p.host.Dir, "nginx.log"), "-c", path)
}

// nginxStream is where Debian's package libnginx-mod-stream has the module.
const nginxStream = "/usr/lib/nginx/modules/ngx_stream_module.so"

// version asks a system's program for its version.
func version(b testing.TB, s *system) string {
	b.Helper()
	words := map[string][]string{HAProxy: {"haproxy", "-v"}, Nginx: {"nginx", "-v"}, Tacit: {s.client.Bin("tacitd"), "--version"}}[s.name]
	if words == nil {
		return ""
	}
	out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
	testhost.Must(b, err)
	first, _, _ := strings.Cut(string(out), "\n")
	return first
}
