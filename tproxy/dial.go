// SPDX-License-Identifier: Apache-2.0

package tproxy

import (
	"context"
	"time"

	"tacit/policy"
	"tacit/tproxy/socket"
)

// dialTimeout is for the program to accept.
const dialTimeout = 5 * time.Second

// dial connects a stream to what is to serve it: a program of this node, or an instance
// outside of the mesh. It calls then on the stream's loop when the connection stands,
// or could not be made; an error is returned instead where it wasn't begun.
func (p *Proxy) dial(ctx context.Context, s *stream, in Inbound, then func(*program, error)) error {
	to, err := p.cfg.Router.Dial(ctx, in)
	if err != nil {
		return asRefusal(err, policy.ReasonDial)
	}
	if err := p.cfg.Headroom.Connection(to.FD); err != nil {
		socket.New(to.FD).Reset()
		return asRefusal(err, policy.ReasonDial)
	}
	limit := dialTimeout
	if end, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(end))
	}
	started := s.thread.Do(func() {
		s.connect(newProgram(to.FD, s.thread), limit, func(second *program, err error) {
			if err != nil {
				then(nil, policy.Refuse(policy.ReasonDial, "%s on port %d: %v", in.Destination, in.Port, err))
				return
			}
			s.dialled(second.conn.Local())
			if len(to.First) > 0 {
				second.write([][]byte{to.First})
			}
			then(second, nil)
		})
	})
	if !started {
		socket.New(to.FD).Reset()
		return policy.Refuse(policy.ReasonDrain, "the proxy is closed")
	}
	return nil
}

// connect waits for the end of connect(), on the stream's loop. It calls then once: the
// connection stands, or second was closed.
func (s *stream) connect(second *program, limit time.Duration, then func(*program, error)) {
	s.dialling = second
	second.connected(limit, func(err error) {
		s.dialling = nil
		if s.over {
			err = policy.Refuse(s.reason(), "cut while it was being opened")
		}
		if err != nil {
			second.Reset("")
			then(nil, err)
			return
		}
		then(second, nil)
	})
	if s.over && s.dialling != nil {
		s.dialling.connectEnded(nil)
	}
}
