// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"tacit/identity"
)

/*
A packet is sealed for one receiver by a key that only the two nodes can compute,
from their node keys:

	version 1 | length of the sender's name 1 | name | start 8 | number 8 | sealed kind and body

Start is when the sender's pool started (Unix nanoseconds), and part of the key;
number counts the packets of a start to one receiver, and is the nonce. So a packet
proves its sender, and only the receiver can read it: revoking a member ends both at
once, on each node that knows of it.
*/

const (
	sealVersion = 1
	numbers     = 8 + 8 // bytes of start and number
	tagSize     = 16
	packetKeys  = "tacit gossip packet 1"
	quiet       = 10 * time.Second // after which a sender may come with an earlier start: its clock was set back
)

// Reasons for which a packet is dropped.
var (
	errForm     = errors.New("not a packet of this mesh")
	errStranger = errors.New("the sender is not a member")
	errForged   = errors.New("not sealed by the sender that it names")
	errReplay   = errors.New("seen before")
)

// Overhead is how many bytes a packet of a node is longer than its body.
func Overhead(self identity.Name) int { return 2 + len(self) + numbers + tagSize + 1 }

// sealer seals this node's packets, and opens those for it.
type sealer struct {
	self  identity.Name
	key   *identity.Key
	mesh  string
	peer  func(identity.Name) (Peer, bool)
	start uint64
	now   func() time.Time

	mu    sync.Mutex
	pairs map[identity.Name]*pair
}

// pair is what this node shares with another.
type pair struct {
	public []byte // of the other node
	secret []byte

	mu    sync.Mutex // guards what follows
	out   cipher.AEAD
	sent  uint64
	in    cipher.AEAD // of the start from
	from  uint64
	heard time.Time
	seen  window
}

func newSealer(c Config) *sealer {
	return &sealer{self: c.Self, key: c.Key, mesh: c.Mesh, peer: c.Peer, start: uint64(time.Now().UnixNano()), now: time.Now,
		pairs: map[identity.Name]*pair{}}
}

// pairWith returns what this node shares with a member, for as long as that member's
// key stays.
func (s *sealer) pairWith(name identity.Name, public []byte) (*pair, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.pairs[name]; p != nil && bytes.Equal(p.public, public) {
		return p, nil
	}
	secret, err := s.key.Agree(public, packetKeys+" "+s.mesh)
	if err != nil {
		return nil, fmt.Errorf("member %s: %w", name, err)
	}
	p := &pair{public: public, secret: secret}
	if p.out, err = p.direction(s.self, name, s.start); err != nil {
		return nil, err
	}
	s.pairs[name] = p
	return p, nil
}

// forget drops what this node shares with one that is no member any more.
func (s *sealer) forget(name identity.Name) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pairs, name)
}

// direction derives the key of one sender's start.
func (p *pair) direction(from, to identity.Name, start uint64) (cipher.AEAD, error) {
	info := string(from) + ">" + string(to) + "/" + string(binary.BigEndian.AppendUint64(nil, start))
	key, err := hkdf.Expand(sha256.New, p.secret, info, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// seal returns a packet for a member with this key.
func (s *sealer) seal(to identity.Name, public []byte, kind Kind, body []byte) ([]byte, error) {
	p, err := s.pairWith(to, public)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	p.sent++
	number := p.sent
	p.mu.Unlock()
	out := make([]byte, 0, Overhead(s.self)+len(body))
	out = append(out, sealVersion, byte(len(s.self)))
	out = append(out, s.self...)
	out = binary.BigEndian.AppendUint64(out, s.start)
	out = binary.BigEndian.AppendUint64(out, number)
	return p.out.Seal(out, nonce(number), append([]byte{byte(kind)}, body...), out), nil
}

func nonce(number uint64) []byte { return binary.BigEndian.AppendUint64(make([]byte, 4, 12), number) }

// open returns the sender that a packet proves. Body is a copy.
func (s *sealer) open(packet []byte) (from identity.Name, kind Kind, body []byte, err error) {
	name, rest, ok := parseHeader(packet)
	if !ok {
		return "", 0, nil, errForm
	}
	peer, ok := s.peer(name)
	if !ok {
		s.forget(name)
		return "", 0, nil, errStranger
	}
	p, err := s.pairWith(name, peer.Public)
	if err != nil {
		return "", 0, nil, err
	}
	plain, err := p.open(s, name, packet[:len(packet)-len(rest)], rest)
	if err != nil {
		return name, 0, nil, err
	}
	return name, Kind(plain[0]), plain[1:], nil
}

// parseHeader splits a packet after its header.
func parseHeader(packet []byte) (name identity.Name, sealed []byte, ok bool) {
	if len(packet) < 2 || packet[0] != sealVersion {
		return "", nil, false
	}
	end := 2 + int(packet[1])
	head := end + numbers
	if packet[1] == 0 || len(packet) < head+tagSize+1 {
		return "", nil, false
	}
	return identity.Name(packet[2:end]), packet[head:], true
}

func (p *pair) open(s *sealer, from identity.Name, head, sealed []byte) ([]byte, error) {
	start := binary.BigEndian.Uint64(head[len(head)-numbers:])
	number := binary.BigEndian.Uint64(head[len(head)-8:])
	p.mu.Lock()
	defer p.mu.Unlock()
	aead := p.in
	if aead == nil || start != p.from {
		var err error
		if aead, err = p.direction(from, s.self, start); err != nil {
			return nil, err
		}
	}
	plain, err := aead.Open(nil, nonce(number), sealed, head)
	if err != nil {
		return nil, errForged
	}
	if start != p.from {
		if start < p.from && s.now().Sub(p.heard) < quiet {
			return nil, errReplay
		}
		p.in, p.from, p.seen = aead, start, window{}
	}
	if !p.seen.add(number) {
		return nil, errReplay
	}
	p.heard = s.now()
	return plain, nil
}

const windowSize = 1024

// window says which of the last windowSize numbers were seen; earlier ones count as
// seen.
type window struct {
	highest uint64
	bits    [windowSize / 64]uint64
}

// add reports whether a number is new.
func (w *window) add(n uint64) bool {
	if n == 0 || n+windowSize <= w.highest {
		return false
	}
	if n > w.highest {
		for i := max(w.highest+1, n-min(n, windowSize-1)); i < n; i++ {
			w.bits[i/64%uint64(len(w.bits))] &^= 1 << (i % 64)
		}
		w.highest = n
	} else if w.bits[n/64%uint64(len(w.bits))]&(1<<(n%64)) != 0 {
		return false
	}
	w.bits[n/64%uint64(len(w.bits))] |= 1 << (n % 64)
	return true
}
