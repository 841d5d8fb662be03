// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"bytes"
	"compress/flate"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// Token admits one new node. It is bound to the node's name, pinned to the root,
// redeemable once, at one authority, and carries the grants that the operator
// signed. Whoever holds it can redeem it: it is a secret until then.
type Token struct {
	ID          string            `json:"id"` // 128 random bits, hex
	Node        Name              `json:"node"`
	TrustDomain string            `json:"trust_domain"`
	Authority   Name              `json:"authority"` // the node that redeems it
	Addresses   []string          `json:"addresses"` // host:port of that node's lane port
	Root        KeyID             `json:"root"`
	Grants      []json.RawMessage `json:"grants,omitempty"` // signed records
	Expires     time.Time         `json:"expires"`
	Operator    []byte            `json:"operator"`            // SPKI, DER
	Signature   []byte            `json:"signature,omitempty"` // over the JSON without it
}

// Reasons for which a token is refused.
var (
	ErrTokenSyntax    = errors.New("the token can't be read; copy the whole line that `tacit token create` printed")
	ErrTokenExpired   = errors.New("the token has expired; make a new one: tacit token create")
	ErrTokenNode      = errors.New("the token is for another node; make one for this node: tacit token create --node")
	ErrTokenSignature = errors.New("the token was altered on its way; copy it again, or make a new one: tacit token create")
	ErrTokenOperator  = errors.New("the token's signer is no operator of this mesh; make a new one on a node that `tacit nodes` marks as operator")
)

const (
	tokenPrefix  = "tacit2."
	tokenContext = "tacit join token v1"
	maxToken     = 128 << 10
)

// NewToken fills in ID, Operator and Signature, and returns the token as text.
func NewToken(t Token, operator *Key) (string, error) {
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return "", fmt.Errorf("token: %w", err)
	}
	t.ID, t.Operator = hex.EncodeToString(id[:]), operator.Public()
	t.Expires = t.Expires.UTC().Truncate(time.Second)
	if err := t.wellFormed(); err != nil {
		return "", fmt.Errorf("token: %w", err)
	}
	msg, err := t.message()
	if err != nil {
		return "", err
	}
	if t.Signature, err = operator.Sign(tokenContext, msg); err != nil {
		return "", err
	}
	text, err := json.Marshal(t)
	if err != nil {
		return "", fmt.Errorf("token: %w", err)
	}
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(shrink(text, operator.ID())), nil
}

// tokenWords is what tokens have in common, for DEFLATE (RFC 1951). It belongs to the
// format: a change to it needs another tokenPrefix.
const tokenWords = `{"kind":"grant","key":"/","dot":{"signer":"","seq":1},"supersedes":[{"signer":"","body":{"node":"","service":""},` +
	`"signer":"MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE","signature":"MEUCIQD"}],"expires":"20","operator":"MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE` +
	`==","signature":"MEQCI"},"trust_domain":"tacit.local","authority":"","addresses":["10.192.168.:7947"],"root":"","grants":[{"id":"","node":"host`

// signerMark stands for the operator's KeyID, which follows from its public key. JSON
// has no such byte.
const signerMark = "\x01"

// shrink makes a token shorter, so that it survives terminals and mails: keys and
// names repeat in its records.
func shrink(text []byte, operator KeyID) []byte {
	var out bytes.Buffer
	w, err := flate.NewWriterDict(&out, flate.BestCompression, []byte(tokenWords))
	if err == nil {
		_, err = w.Write(bytes.ReplaceAll(text, []byte(operator.String()), []byte(signerMark)))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		panic(err) // writing to memory at a level that exists can't fail
	}
	return out.Bytes()
}

// grow is the reverse of shrink. It returns at most maxToken bytes.
func grow(short []byte) ([]byte, error) {
	in := bytes.NewReader(short)
	text, err := io.ReadAll(io.LimitReader(flate.NewReaderDict(in, []byte(tokenWords)), maxToken+1))
	if err != nil {
		return nil, err
	}
	if len(text)+64*bytes.Count(text, []byte(signerMark)) > maxToken || in.Len() > 0 {
		return nil, errors.New("too long")
	}
	_, rest, _ := bytes.Cut(text, []byte(`"operator":"`))
	encoded, _, _ := bytes.Cut(rest, []byte(`"`))
	key, err := base64.StdEncoding.DecodeString(string(encoded))
	if err != nil {
		return nil, err
	}
	return bytes.ReplaceAll(text, []byte(signerMark), []byte(KeyID(sha256.Sum256(key)).String())), nil
}

// message is what is signed: the token's JSON without the signature. Go writes
// struct fields in their order, so the same token gives the same bytes.
func (t Token) message() ([]byte, error) {
	t.Signature = nil
	msg, err := json.Marshal(t)
	if err != nil {
		return nil, fmt.Errorf("token: %w", err)
	}
	return msg, nil
}

// String describes the token without its secret parts.
func (t Token) String() string {
	return fmt.Sprintf("token for node %s of %s until %s", t.Node, t.TrustDomain, t.Expires.Format(time.RFC3339))
}

// ParseToken reads a token's text without verifying it. Errors: ErrTokenSyntax.
func ParseToken(text string) (*Token, error) {
	body, ok := strings.CutPrefix(strings.TrimSpace(text), tokenPrefix)
	if !ok {
		return nil, fmt.Errorf("%w: it doesn't begin with %s", ErrTokenSyntax, tokenPrefix)
	}
	if len(body) > maxToken {
		return nil, fmt.Errorf("%w: %d bytes are too many", ErrTokenSyntax, len(body))
	}
	var t Token
	raw, err := base64.RawURLEncoding.DecodeString(body)
	if err == nil {
		raw, err = grow(raw)
	}
	if err != nil || json.Unmarshal(raw, &t) != nil {
		return nil, fmt.Errorf("%w: it is cut off, or a character is wrong", ErrTokenSyntax)
	}
	if err := t.wellFormed(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTokenSyntax, err)
	}
	return &t, nil
}

func (t *Token) wellFormed() error {
	for _, n := range []Name{t.Node, t.Authority} {
		if got, err := ParseName(string(n)); err != nil || got != n {
			return fmt.Errorf("bad name %.80q", n)
		}
	}
	if _, err := ParseTrustDomain(t.TrustDomain); err != nil {
		return err
	}
	if id, err := hex.DecodeString(t.ID); err != nil || len(id) != 16 || hex.EncodeToString(id) != t.ID {
		return errors.New("bad id")
	}
	if len(t.Addresses) == 0 || t.Root == (KeyID{}) || t.Expires.IsZero() {
		return errors.New("a field is missing")
	}
	return nil
}

// Verify checks the token's signature, signer, node and expiry. Errors:
// ErrTokenSignature, ErrTokenOperator, ErrTokenNode, ErrTokenExpired.
func (t *Token) Verify(node Name, isOperator func(KeyID) bool, now time.Time) error {
	msg, err := t.message()
	if err != nil {
		return err
	}
	if VerifySignature(t.Operator, tokenContext, msg, t.Signature) != nil {
		return ErrTokenSignature
	}
	if !isOperator(sha256.Sum256(t.Operator)) {
		return ErrTokenOperator
	}
	if t.Node != node {
		return fmt.Errorf("%w %s (it is for %s)", ErrTokenNode, node, t.Node)
	}
	if !now.Before(t.Expires) {
		return fmt.Errorf("%w --node %s (it ended at %s)", ErrTokenExpired, node, t.Expires.Format(time.RFC3339))
	}
	return nil
}
