// SPDX-License-Identifier: Apache-2.0

package listen

import (
	"net"
	"os"
	"sync"
)

// Inherited are listening sockets that another process has handed over, by name. Each
// can be taken once. A nil Inherited has none. It is safe for concurrent use.
type Inherited struct {
	mu    sync.Mutex
	files map[string]*os.File
}

// NewInherited owns the files.
func NewInherited(files map[string]*os.File) *Inherited { return &Inherited{files: files} }

// TCP takes a TCP listener; nil where there is none of that name.
func (i *Inherited) TCP(name string) *net.TCPListener {
	f := i.take(name)
	if f == nil {
		return nil
	}
	defer f.Close()
	ln, err := net.FileListener(f)
	if err != nil {
		return nil
	}
	tcp, ok := ln.(*net.TCPListener)
	if !ok {
		_ = ln.Close()
		return nil
	}
	return tcp
}

// UDP takes a UDP socket; nil where there is none of that name.
func (i *Inherited) UDP(name string) *net.UDPConn {
	f := i.take(name)
	if f == nil {
		return nil
	}
	defer f.Close()
	conn, err := net.FilePacketConn(f)
	if err != nil {
		return nil
	}
	udp, ok := conn.(*net.UDPConn)
	if !ok {
		_ = conn.Close()
		return nil
	}
	return udp
}

func (i *Inherited) take(name string) *os.File {
	if i == nil {
		return nil
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	f := i.files[name]
	delete(i.files, name)
	return f
}

// Close closes what nobody has taken.
func (i *Inherited) Close() {
	if i == nil {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	for name, f := range i.files {
		_ = f.Close()
		delete(i.files, name)
	}
}
