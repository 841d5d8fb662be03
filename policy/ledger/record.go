// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"

	"tacit/identity"
)

// Kind is a record's subject. It determines the possible signers and the key.
type Kind string

// The kinds.
const (
	KindRoot       Kind = "root"       // key: trust domain; by the root
	KindOperator   Kind = "operator"   // key: the operator's KeyID; by the root or an operator
	KindRevocation Kind = "revocation" // key: the KeyID revoked; by the root or an operator
	KindAuthority  Kind = "authority"  // key: node; by the root or an operator
	KindMember     Kind = "member"     // key: node; by an authority's intermediate key
	KindGrant      Kind = "grant"      // key: node/service; by an operator
	KindNode       Kind = "node"       // key: node; by that node's member key
	KindInstance   Kind = "instance"   // key: node/id; by that node's member key
	KindFloor      Kind = "floor"      // key: node; by that node's member key
	KindIntention  Kind = "intention"  // key: source>destination; by an operator
	KindResolver   Kind = "resolver"   // key: service; by an operator
)

// ranks orders kinds so that records which authorise others precede them.
var ranks = map[Kind]int{
	KindRoot: 1, KindOperator: 2, KindRevocation: 3, KindAuthority: 4, KindMember: 5,
	KindGrant: 6, KindNode: 7, KindInstance: 8, KindFloor: 9, KindIntention: 10, KindResolver: 11,
}

// Limits of one record.
const (
	maxBody       = 16 << 10 // bytes
	maxKey        = 255      // bytes
	maxSupersedes = 64       // dots
	maxEncoded    = 256      // bytes of a public key or a signature
)

// signContext is the prefix of every signed message of a ledger.
const signContext = "tacit record 1"

// Dot identifies a record in its cell by signer and sequence number, which is an epoch
// and a counter (see Begin). Numbers may have gaps.
type Dot struct {
	Signer identity.KeyID `json:"signer"`
	Seq    uint64         `json:"seq"`
}

func compareDots(a, b Dot) int {
	return cmp.Or(bytes.Compare(a.Signer[:], b.Signer[:]), cmp.Compare(a.Seq, b.Seq))
}

// Record is one signed statement. It travels as JSON; Body must be exactly what
// encoding/json writes for it, so that its bytes survive re-encoding.
type Record struct {
	Kind       Kind            `json:"kind"`
	Key        string          `json:"key"`
	Dot        Dot             `json:"dot"`
	Supersedes []Dot           `json:"supersedes,omitempty"`
	Delete     bool            `json:"delete,omitempty"` // a delete has no body
	Body       json.RawMessage `json:"body,omitempty"`
	Signer     []byte          `json:"signer"` // SPKI, DER
	Signature  []byte          `json:"signature"`
}

// ID returns the name under which a record is stored: its dot, and a hash of what it
// says, since two starts of a signer that had one epoch use a number twice.
func (r *Record) ID() string {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %t %s", r.Kind, r.Key, r.Delete, r.Body)
	return fmt.Sprintf("%s/%020d/%x", r.Dot.Signer, r.Dot.Seq, h.Sum(nil)[:8])
}

// message returns the signed bytes: all fields but the signature, each prefixed with
// its length, and the trust domain, so that a record is invalid in another mesh.
func (r *Record) message(trustDomain string) []byte {
	var m []byte
	part := func(b []byte) {
		m = binary.BigEndian.AppendUint64(m, uint64(len(b)))
		m = append(m, b...)
	}
	dot := func(d Dot) {
		m = append(m, d.Signer[:]...)
		m = binary.BigEndian.AppendUint64(m, d.Seq)
	}
	part([]byte(trustDomain))
	part([]byte(r.Kind))
	part([]byte(r.Key))
	dot(r.Dot)
	m = binary.BigEndian.AppendUint64(m, uint64(len(r.Supersedes)))
	for _, d := range r.Supersedes {
		dot(d)
	}
	if r.Delete {
		m = append(m, 1)
	} else {
		m = append(m, 0)
	}
	part(r.Body)
	part(r.Signer)
	return m
}

// entry is a parsed record whose form has been checked.
type entry struct {
	Record
	hash [32]byte       // of the message, which the signature isn't part of
	body any            // one of the Body types, policy.Intention or resolver.Rules; nil for a delete
	sub  identity.KeyID // the key that the body binds to the record's key, if any

	verified bool // the signature
}

// slot is a signer's place in a cell: one for each of its epochs, so that a record of
// a later start which doesn't know an earlier one can't replace it. A node's latest
// record counts, whatever it knew.
type slot struct {
	signer, sub identity.KeyID
	epoch       uint64
}

func (e *entry) slot() slot {
	if ownKind(e.Kind) {
		return slot{signer: e.Dot.Signer, sub: e.sub}
	}
	return slot{e.Dot.Signer, e.sub, epochOf(e.Dot.Seq)}
}

func compareEntries(a, b *entry) int {
	return cmp.Or(
		cmp.Compare(ranks[a.Kind], ranks[b.Kind]),
		cmp.Compare(a.Key, b.Key),
		compareDots(a.Dot, b.Dot),
		bytes.Compare(a.hash[:], b.hash[:]))
}

// open checks a record's form and parses it. It doesn't verify the signature.
func (l *Ledger) open(r Record) (*entry, error) {
	if err := r.checkForm(); err != nil {
		return nil, err
	}
	e := &entry{Record: r, hash: sha256.Sum256(r.message(l.trustDomain))}
	if r.Delete {
		return e, checkDelete(r.Kind, r.Key)
	}
	b, err := parseBody(r.Kind, r.Body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBody, err)
	}
	e.body, e.sub = b.Value, b.Sub
	return e, l.checkKey(e, b.Key)
}

// checkKey compares the record's key with the body's. The body of a root has none:
// its key is the trust domain.
func (l *Ledger) checkKey(e *entry, key string) error {
	switch {
	case e.Kind == KindRoot && (e.Key != l.trustDomain || e.sub != l.root):
		return fmt.Errorf("%w: not the root of %s", ErrBody, l.trustDomain)
	case e.Kind != KindRoot && key != e.Key:
		return fmt.Errorf("%w: its key is %.80q, the record's is %.80q", ErrBody, key, e.Key)
	case e.Kind == KindRevocation && key == l.root.String():
		return fmt.Errorf("%w: the root can't be revoked", ErrBody)
	}
	return nil
}

func (r *Record) checkForm() error {
	switch {
	case ranks[r.Kind] == 0:
		return fmt.Errorf("%w: unknown kind %.20q", ErrMalformed, r.Kind)
	case r.Key == "" || len(r.Key) > maxKey:
		return fmt.Errorf("%w: a key of %d bytes, use 1 to %d", ErrMalformed, len(r.Key), maxKey)
	case len(r.Body) > maxBody:
		return fmt.Errorf("%w: a body of %d bytes, at most %d", ErrMalformed, len(r.Body), maxBody)
	case r.Delete == (len(r.Body) > 0):
		return fmt.Errorf("%w: a delete has no body, everything else has one", ErrMalformed)
	case len(r.Signer) > maxEncoded || len(r.Signature) > maxEncoded:
		return fmt.Errorf("%w: signer or signature over %d bytes", ErrMalformed, maxEncoded)
	case r.Dot.Signer != identity.KeyID(sha256.Sum256(r.Signer)):
		return fmt.Errorf("%w: the dot names another signer", ErrMalformed)
	case counterOf(r.Dot.Seq) == 0 || r.Dot.Seq > math.MaxInt64:
		return fmt.Errorf("%w: number %d", ErrMalformed, r.Dot.Seq)
	}
	return r.checkSupersedes()
}

func (r *Record) checkSupersedes() error {
	if len(r.Supersedes) > maxSupersedes {
		return fmt.Errorf("%w: supersedes %d records, at most %d", ErrMalformed, len(r.Supersedes), maxSupersedes)
	}
	for _, d := range r.Supersedes {
		if d.Seq == 0 || d.Seq > math.MaxInt64 || d.Signer == r.Dot.Signer && d.Seq >= r.Dot.Seq {
			return fmt.Errorf("%w: supersedes number %d, which can't exist yet", ErrMalformed, d.Seq)
		}
		if d.Signer != r.Dot.Signer && (isFloor(d) || ownKind(r.Kind)) {
			return fmt.Errorf("%w: supersedes what only %s may", ErrMalformed, d.Signer.Short())
		}
	}
	return nil
}
