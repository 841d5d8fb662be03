// SPDX-License-Identifier: Apache-2.0

package selfprobe

import (
	"golang.org/x/sys/unix"

	"tacit/tproxy/accept"
	"tacit/tproxy/socket"
)

// Listener keeps the probe's connections from the proxy: it answers them.
func (p *SelfProbe) Listener(ln accept.Listener) accept.Listener { return answering{ln, p} }

type answering struct {
	accept.Listener
	p *SelfProbe
}

// AcceptAll passes on the connections that aren't the probe's.
func (l answering) AcceptAll(take func(fd int)) error {
	return l.Listener.AcceptAll(func(fd int) {
		if !l.p.answers(fd) {
			take(fd)
		}
	})
}

// answers sends the round's token on a captured connection that is the probe's
// according to the kernel, and reports whether it was one. Others go to the
// proxy, which refuses them.
func (p *SelfProbe) answers(fd int) bool {
	at, err := socket.Local(fd)
	if err != nil || p.fault != nil {
		return false
	}
	if v4, v6 := p.conf.Virtual(service); at.Addr() != v4 && at.Addr() != v6 {
		return false
	}
	if who, err := p.conf.Source(fd); err != nil || who != service {
		return false
	}
	p.mu.Lock()
	token := p.round.token
	p.mu.Unlock()
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{}) // as inherited, close would reset it
	_, _ = unix.Write(fd, []byte(token))                                           // fits into the socket's buffer; the probe reports a failure
	_ = unix.Close(fd)
	return true
}
