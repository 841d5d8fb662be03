// SPDX-License-Identifier: Apache-2.0

package selfprobe

import (
	"io"
	"net"
)

// Listener keeps the probe's connections from the proxy: it answers them.
func (p *SelfProbe) Listener(ln net.Listener) net.Listener { return answering{ln, p} }

type answering struct {
	net.Listener
	p *SelfProbe
}

// Accept returns the next connection that isn't the probe's.
func (l answering) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil || !l.p.answers(conn) {
			return conn, err
		}
	}
}

// answers sends the round's token on a captured connection that is the probe's
// according to the kernel, and reports whether it was one. Others go to the
// proxy, which refuses them.
func (p *SelfProbe) answers(conn net.Conn) bool {
	tcp, ok := conn.(*net.TCPConn)
	if !ok || p.fault != nil {
		return false
	}
	at := tcp.LocalAddr().(*net.TCPAddr).AddrPort().Addr()
	if v4, v6 := p.conf.Virtual(service); at.Unmap() != v4 && at != v6 {
		return false
	}
	if who, err := p.conf.Source(tcp); err != nil || who != service {
		return false
	}
	p.mu.Lock()
	token := p.round.token
	p.mu.Unlock()
	_, _ = io.WriteString(tcp, token) // fits into the socket's buffer; the probe reports a failure
	_ = tcp.Close()
	return true
}
