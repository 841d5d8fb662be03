// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"net"
	"sync"
	"syscall"
	"time"
)

// lasting is a listener that opens itself anew when the kernel has closed it:
// whoever may (ss -K) closes sockets of others, those that listen, too.
type lasting struct {
	open   func() (net.Listener, error)
	report func(error) // nil: it listens again

	mu   sync.Mutex
	now  net.Listener
	done chan struct{}
}

func newLasting(now net.Listener, open func() (net.Listener, error), report func(error)) *lasting {
	return &lasting{open: open, report: report, now: now, done: make(chan struct{})}
}

func (l *lasting) Accept() (net.Conn, error) {
	for {
		now := l.current()
		conn, err := now.Accept()
		if err == nil || l.current() == now && (!errors.Is(err, syscall.EINVAL) || !l.renew()) {
			return conn, err
		}
	}
}

// again takes another socket now, in place of one that still listens.
func (l *lasting) again() error {
	fresh, err := l.open()
	if err != nil {
		return err
	}
	old := l.current()
	l.take(fresh)
	return old.Close()
}

func (l *lasting) Addr() net.Addr { return l.current().Addr() }

func (l *lasting) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.done:
	default:
		close(l.done)
	}
	return l.now.Close()
}

func (l *lasting) current() net.Listener {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now
}

// renew tries until there is a listener again; false when it was closed.
func (l *lasting) renew() bool {
	_ = l.current().Close() // it holds nothing but a descriptor
	for {
		select {
		case <-l.done:
			return false
		default:
		}
		fresh, err := l.open()
		l.report(err)
		if err == nil {
			return l.take(fresh)
		}
		select {
		case <-l.done:
			return false
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (l *lasting) take(fresh net.Listener) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.done: // closed meanwhile
		_ = fresh.Close()
		return false
	default:
		l.now = fresh
		return true
	}
}
