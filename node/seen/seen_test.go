// SPDX-License-Identifier: Apache-2.0

package seen

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tacit/identity"
	"tacit/internal/testhost"
	"tacit/node/definition"
)

const (
	web4 = "240.64.0.3"
	web6 = "fd7a:ac17::3"
)

// enterNamespace moves the thread of the test into a network namespace with the
// routes of the virtual ranges.
func enterNamespace(t testing.TB, more ...string) {
	t.Helper()
	runtime.LockOSThread() // until the test ends, and the thread with it
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	run(t, append([]string{"ip link set lo up", "ip route add local 240.64.0.0/12 dev lo src 127.0.0.1",
		"ip -6 route add local fd7a:ac17::/32 dev lo src ::1"}, more...)...)
}

func run(t testing.TB, lines ...string) {
	t.Helper()
	for _, line := range lines {
		words := strings.Fields(line)
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", line, err, out)
		}
	}
}

func dialer() Dialer {
	return Dialer{
		Virtual: func(name identity.Name) (v4, v6 netip.Addr) {
			if name == "web" {
				return netip.MustParseAddr(web4), netip.MustParseAddr(web6)
			}
			return netip.Addr{}, netip.Addr{}
		},
		ID:    func(name identity.Name) string { return "spiffe://mesh.test/svc/" + string(name) },
		Tag:   func(int, identity.Name, identity.Name, bool) error { return nil },
		Local: func(a netip.Addr) bool { return a.String() == "10.0.0.1" || a.String() == web4 },
		Host: func(node identity.Name) netip.Addr {
			return map[identity.Name]netip.Addr{"host7": netip.MustParseAddr("10.0.0.7")}[node]
		},
	}
}

func listen(t testing.TB, addr string) (net.Listener, uint16) {
	t.Helper()
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln, uint16(ln.Addr().(*net.TCPAddr).Port)
}

// call makes a connection as the proxy does, up to the first bytes.
func call(t testing.TB, d Dialer, c Call) (*net.TCPConn, error) {
	t.Helper()
	begun, err := d.Dial(c)
	if err == nil {
		begun, err = begun.Wait(t.Context())
	}
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(begun.FD), "program")
	defer f.Close()
	conn, err := net.FileConn(f)
	testhost.Must(t, err)
	_, err = conn.Write(begun.First)
	testhost.Must(t, err)
	return conn.(*net.TCPConn), nil
}

// TestDial: each listener sees the source's virtual address, whatever the sysctls
// that concern source addresses say.
func TestDial(t *testing.T) {
	for _, sysctls := range [][]string{
		nil,
		{"sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.lo.rp_filter=1"},
		{"sysctl -qw net.ipv4.conf.all.rp_filter=2"},
		{"sysctl -qw net.ipv4.conf.all.route_localnet=1"},
		{"sysctl -qw net.ipv4.conf.all.accept_local=0 net.ipv4.conf.all.src_valid_mark=1"},
		{"sysctl -qw net.ipv4.conf.all.log_martians=1 net.ipv4.ip_early_demux=0"},
		{"sysctl -qw net.ipv6.bindv6only=0 net.ipv6.conf.all.forwarding=1 net.ipv4.ip_forward=1"},
	} {
		t.Run(strings.Join(sysctls, ""), func(t *testing.T) {
			enterNamespace(t, sysctls...)
			for _, transparent := range []bool{false, true} {
				for _, c := range []struct {
					bind, to string
					show     definition.ClientAddress
					want     string
				}{
					{"127.0.0.1", "127.0.0.1", "", web4},
					{"0.0.0.0", "127.0.0.1", "", web4},
					{"[::]", "127.0.0.1", "", web4},
					{"[::]", "::1", "", web6},
					{"[::1]", "::1", "", web6},
					{"127.0.0.1", "127.0.0.1", definition.ClientLoopback, "127.0.0.1"},
					{"[::1]", "::1", definition.ClientLoopback, "::1"},
					{"127.0.0.1", "127.0.0.1", definition.ClientProxyProtocol, web4},
				} {
					ln, port := listen(t, c.bind+":0")
					d := dialer()
					d.Transparent = transparent
					conn, err := call(t, d, Call{Source: "web", Destination: "db", To: netip.AddrPortFrom(netip.MustParseAddr(c.to), port), Show: c.show})
					if err != nil {
						t.Errorf("%s by %s: %v", c.bind, c.to, err)
						continue
					}
					accepted, err := ln.Accept()
					if err != nil {
						t.Fatal(err)
					}
					if got := accepted.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap().String(); got != c.want {
						t.Errorf("%s by %s, %q: saw %s, want %s", c.bind, c.to, c.show, got, c.want)
					}
					_, _ = conn.Close(), accepted.Close()
				}
			}
		})
	}
}

// TestDialled: the descriptor is one of plain TCP that an event loop can own; nobody
// has to accept before Dial returns.
func TestDialled(t *testing.T) {
	enterNamespace(t, "sysctl -qw net.mptcp.enabled=1")
	const backlog = 1
	full, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	testhost.Must(t, err)
	defer unix.Close(full)
	testhost.Must(t, unix.Bind(full, &unix.SockaddrInet4{Port: 8001, Addr: [4]byte{127, 0, 0, 1}}))
	testhost.Must(t, unix.Listen(full, backlog))
	for n := range backlog + 3 { // the last ones stay unanswered
		for _, outside := range []bool{false, true} {
			begun, err := dialer().Dial(Call{Source: "web", Destination: "db", To: netip.MustParseAddrPort("127.0.0.1:8001"), Outside: outside, Show: definition.ClientProxyProtocol})
			testhost.Must(t, err)
			defer unix.Close(begun.FD)
			keep := 0
			if outside {
				keep = 1
			}
			for option, want := range map[[2]int]int{
				{unix.SOL_SOCKET, unix.SO_PROTOCOL}: unix.IPPROTO_TCP, {unix.IPPROTO_TCP, unix.TCP_NODELAY}: 1, {unix.SOL_SOCKET, unix.SO_KEEPALIVE}: keep,
				{unix.SOL_SOCKET, unix.SO_OOBINLINE}: 1,
			} {
				if got, err := unix.GetsockoptInt(begun.FD, option[0], option[1]); err != nil || got != want {
					t.Errorf("%d, outside %t: option %d of level %d is %d, %v; want %d", n, outside, option[1], option[0], got, err, want)
				}
			}
			status, err := unix.FcntlInt(uintptr(begun.FD), unix.F_GETFL, 0)
			flags, err2 := unix.FcntlInt(uintptr(begun.FD), unix.F_GETFD, 0)
			if errors.Join(err, err2) != nil || status&unix.O_NONBLOCK == 0 || flags&unix.FD_CLOEXEC == 0 || !strings.HasPrefix(string(begun.First), signature) {
				t.Errorf("%d: flags %#x and %#x, %v; first %q", n, status, flags, errors.Join(err, err2), begun.First)
			}
		}
	}
}

// TestOwnAddress: what a program sees that asks for its callers' own addresses.
func TestOwnAddress(t *testing.T) {
	enterNamespace(t)
	for _, c := range []struct {
		name, node, client, program, want string
		foreign                           bool
	}{
		{"a container of another node", "host7", "172.17.0.2:4000", "127.0.0.1:80", "172.17.0.2", true},
		{"a container of this node", "", "172.17.0.2:4000", "127.0.0.1:80", "172.17.0.2", true},
		{"mapped", "host7", "[::ffff:172.17.0.2]:4000", "127.0.0.1:80", "172.17.0.2", true},
		{"IPv6", "host7", "[fd00:17::2]:4000", "[::1]:80", "fd00:17::2", true},
		{"a program of another node", "host7", "127.0.0.1:4000", "127.0.0.1:80", "10.0.0.7", true},
		{"one whose node has no address", "host8", "127.0.0.1:4000", "127.0.0.1:80", web4, false},
		{"a program of this node", "", "127.0.0.1:4000", "127.0.0.1:80", web4, false},
		{"the other family", "host7", "[fd00:17::2]:4000", "127.0.0.1:80", web4, false},
		{"an address of this host", "host7", "10.0.0.1:4000", "127.0.0.1:80", web4, false},
		{"a virtual address", "host7", web4 + ":4000", "127.0.0.1:80", web4, false},
		{"a link-local one", "host7", "169.254.1.1:4000", "127.0.0.1:80", web4, false},
		{"multicast", "host7", "224.0.0.1:4000", "127.0.0.1:80", web4, false},
		{"with a zone", "host7", "[fd00:17::2%lo]:4000", "[::1]:80", web6, false},
		{"a program that doesn't listen on loopback", "host7", "172.17.0.2:4000", "10.0.0.1:80", web4, false},
	} {
		call := Call{Source: "web", Node: identity.Name(c.node), Client: netip.MustParseAddrPort(c.client), To: netip.MustParseAddrPort(c.program), Show: definition.ClientOwn}
		if at, foreign := dialer().address(call); at.String() != c.want || foreign != c.foreign {
			t.Errorf("%s: %s, %v; want %s, %v", c.name, at, foreign, c.want, c.foreign)
		}
	}
}

// TestPorts: two programs have an ephemeral port each for every port in the range,
// from one source: bind() takes none from the address.
func TestPorts(t *testing.T) {
	enterNamespace(t)
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte("50000 50019"), 0); err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{"127.0.0.1:8001", "127.0.0.1:8002", "[::1]:8001", "[::1]:8002"} {
		listen(t, addr)
		for i := range 20 {
			conn, err := call(t, dialer(), Call{Source: "web", To: netip.MustParseAddrPort(addr)})
			if err != nil {
				t.Fatalf("connection %d to %s: %v", i+1, addr, err)
			}
			defer conn.Close()
		}
		if _, err := call(t, dialer(), Call{Source: "web", To: netip.MustParseAddrPort(addr)}); !errors.Is(err, syscall.EADDRNOTAVAIL) {
			t.Errorf("connection 21 to %s: %v", addr, err)
		}
	}
}

// TestDialFails with an error that says why, and leaves no socket.
func TestDialFails(t *testing.T) {
	enterNamespace(t)
	ln, port := listen(t, "127.0.0.1:0")
	to := netip.MustParseAddrPort(ln.Addr().String())
	refuses := dialer()
	refuses.Tag = func(int, identity.Name, identity.Name, bool) error { return errors.New("the map is full") }
	for _, c := range []struct {
		name string
		d    Dialer
		call Call
		want string
	}{
		{"no virtual address", dialer(), Call{Source: "unknown", To: to}, "unknown has no virtual address on this node"},
		{"no tag", refuses, Call{Source: "web", To: to}, "the map is full"},
		{"nobody listens", dialer(), Call{Source: "web", To: netip.AddrPortFrom(netip.IPv6Loopback(), port)}, "connection refused"},
	} {
		before := descriptors(t)
		conn, err := call(t, c.d, c.call)
		if conn != nil || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %s", c.name, err, c.want)
		}
		if after := descriptors(t); after > before {
			t.Errorf("%s: %d descriptors, %d before", c.name, after, before)
		}
	}
	run(t, "ip route del local 240.64.0.0/12 dev lo")
	if _, err := call(t, dialer(), Call{Source: "web", To: to}); err == nil || !strings.Contains(err.Error(), "bind to 240.64.0.3, the address of web") {
		t.Errorf("without the route: %v", err)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// TestHeaderComesFirst: the program reads the header before what the caller sends.
func TestHeaderComesFirst(t *testing.T) {
	enterNamespace(t)
	ln, _ := listen(t, "127.0.0.1:8001")
	for client, source := range map[string]string{
		"10.0.0.7:4321": "10.0.0.7", "127.0.0.1:4321": web4, "[::1]:4321": web4, "[fd88::7]:4321": "fd88::7",
	} {
		conn, err := call(t, dialer(), Call{Source: "web", Client: netip.MustParseAddrPort(client),
			To: netip.MustParseAddrPort(ln.Addr().String()), Show: definition.ClientProxyProtocol})
		if err != nil {
			t.Fatal(err)
		}
		accepted, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write([]byte("hello"))
		_ = conn.Close()
		want := string(header(netip.AddrPortFrom(netip.MustParseAddr(source), 4321), netip.MustParseAddrPort("127.0.0.1:8001"), "spiffe://mesh.test/svc/web")) + "hello"
		var got strings.Builder
		_ = accepted.SetDeadline(time.Now().Add(5 * time.Second))
		for buf := make([]byte, 512); ; {
			n, err := accepted.Read(buf)
			got.Write(buf[:n])
			if err != nil {
				break
			}
		}
		if got.String() != want {
			t.Errorf("client %s: %q; want %q", client, got.String(), want)
		}
		_ = accepted.Close()
	}
}

// TestHeader compares whole headers with the specification's layout.
func TestHeader(t *testing.T) {
	const start = "\r\n\r\n\x00\r\nQUIT\n\x21"
	for _, c := range []struct{ client, program, want string }{
		{"10.0.0.7:258", "127.0.0.1:8000", start + "\x11\x00\x18" + "\x0a\x00\x00\x07" + "\x7f\x00\x00\x01" + "\x01\x02\x1f\x40" + "\xe0\x00\x09spiffe://"},
		{"[::ffff:10.0.0.7]:258", "127.0.0.1:8000", start + "\x11\x00\x18" + "\x0a\x00\x00\x07" + "\x7f\x00\x00\x01" + "\x01\x02\x1f\x40" + "\xe0\x00\x09spiffe://"},
		{"10.0.0.7:258", "[::1]:8000", start + "\x21\x00\x30" + strings.Repeat("\x00", 10) + "\xff\xff\x0a\x00\x00\x07" + strings.Repeat("\x00", 15) + "\x01" + "\x01\x02\x1f\x40" + "\xe0\x00\x09spiffe://"},
	} {
		if got := string(header(netip.MustParseAddrPort(c.client), netip.MustParseAddrPort(c.program), "spiffe://")); got != c.want {
			t.Errorf("%s to %s: %q, want %q", c.client, c.program, got, c.want)
		}
	}
}

// BenchmarkDial is what the source address costs a connection.
func BenchmarkDial(b *testing.B) {
	for _, show := range []definition.ClientAddress{definition.ClientLoopback, definition.ClientService} {
		b.Run("client_address="+string(show), func(b *testing.B) {
			enterNamespace(b)
			ln, port := listen(b, "127.0.0.1:0")
			to := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)
			b.ReportAllocs()
			for b.Loop() {
				conn, err := dialer().Dial(Call{Source: "web", Destination: "db", To: to, Show: show})
				if err != nil {
					b.Fatal(err)
				}
				accepted, err := ln.Accept()
				if err != nil {
					b.Fatal(err)
				}
				_ = unix.SetsockoptLinger(conn.FD, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
				_, _ = unix.Close(conn.FD), accepted.Close()
			}
		})
	}
}
