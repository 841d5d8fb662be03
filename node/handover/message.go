// SPDX-License-Identifier: Apache-2.0

// Package handover lets a new daemon, the successor, take over the work of one that
// runs, the incumbent: it carries the question, what the successor needs to go on at
// once, and the listening sockets. Afterwards the incumbent only carries its live
// streams, and asks the successor which of them may go on. The package must not know
// what state and sockets mean, nor how a part stops and starts.
package handover

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"tacit/identity"
)

// protocol is the version of the messages. Later versions may add fields.
const protocol = 1

// Hello is what a successor says of itself.
type Hello struct {
	Protocol int
	Node     identity.Name
	StateDir string
	BPFDir   string
}

// State is what a successor needs to go on at once, besides the state directory.
type State struct {
	Version  string
	Epoch    uint64          // of the records, which the state directory has as well; 0: no member has told what it knows
	Alive    []identity.Name // members
	Beside   []int           // processes of earlier incumbents, which still carry streams
	Services []Certificate   // of the services that run here
	Checks   json.RawMessage // states of the health checks
}

// Certificate is a service's, and its key, as PEM.
type Certificate struct {
	Service    identity.Name
	Chain, Key []byte
}

// message is the one form of all messages before the release. Descriptors that belong
// to the names in Sockets travel with it.
type message struct {
	Hello   *Hello   `json:",omitempty"` // the successor asks
	State   *State   `json:",omitempty"` // the incumbent has stopped writing; sockets follow
	Sockets []string `json:",omitempty"`
	End     bool     `json:",omitempty"` // of the sockets
	Opened  bool     `json:",omitempty"` // the successor has opened everything
	Release bool     `json:",omitempty"` // the incumbent only carries its streams from now on
	Refused string   `json:",omitempty"`
}

const (
	maxMessage = 4 << 20
	maxSockets = 4 // in one message
)

var errMalformed = errors.New("not a message of a tacitd")

// send writes one message with its descriptors.
func send(c *net.UnixConn, m message, fds ...int) error {
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	frame := append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
	n, _, err := c.WriteMsgUnix(frame, rights, nil)
	if err == nil && n < len(frame) { // the descriptors went with the first byte
		_, err = c.Write(frame[n:])
	}
	return err
}

// receive reads one message, and no byte beyond it.
func receive(c *net.UnixConn) (m message, files []*os.File, err error) {
	var head [4]byte
	oob := make([]byte, unix.CmsgSpace(4*maxSockets))
	n, oobn, _, _, err := c.ReadMsgUnix(head[:], oob)
	if err == nil && n < len(head) {
		_, err = io.ReadFull(c, head[n:])
	}
	if err == nil {
		files, err = filesOf(oob[:oobn])
	}
	if err != nil {
		return m, files, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > maxMessage {
		return m, files, errMalformed
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(c, body); err != nil {
		return m, files, err
	}
	if err := json.Unmarshal(body, &m); err != nil || len(files) != len(m.Sockets) {
		return m, files, errors.Join(errMalformed, err)
	}
	return m, files, nil
}

func filesOf(oob []byte) (files []*os.File, err error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			return files, err
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "inherited"))
		}
	}
	return files, nil
}

// Sockets are those of the incumbent, by name.
type Sockets map[string]syscall.Conn

// sendSockets sends each with a message of its own, and then the end.
func sendSockets(c *net.UnixConn, all Sockets) error {
	for name, socket := range all {
		raw, err := socket.SyscallConn()
		if err != nil {
			return fmt.Errorf("socket %s: %w", name, err)
		}
		var sent error
		err = raw.Control(func(fd uintptr) { sent = send(c, message{Sockets: []string{name}}, int(fd)) })
		if err := errors.Join(err, sent); err != nil {
			return fmt.Errorf("socket %s: %w", name, err)
		}
	}
	return send(c, message{End: true})
}

// within sets the deadline of a step.
func within(c *net.UnixConn, d time.Duration) { _ = c.SetDeadline(time.Now().Add(d)) }

// pidOf is the process at the other end, which must be root's or of the same user.
func pidOf(c *net.UnixConn) (int, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var inner error
	if err := raw.Control(func(fd uintptr) { cred, inner = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return 0, err
	}
	if inner != nil {
		return 0, inner
	}
	if cred.Uid != 0 && int(cred.Uid) != os.Geteuid() {
		return 0, fmt.Errorf("process %d of user %d is not root's", cred.Pid, cred.Uid)
	}
	return int(cred.Pid), nil
}
