// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
)

// KeyID is the SHA-256 of a public key's SubjectPublicKeyInfo in DER.
type KeyID [32]byte

// String is 64 hex digits.
func (k KeyID) String() string { return hex.EncodeToString(k[:]) }

// Short is the first 12 hex digits, for people.
func (k KeyID) Short() string { return hex.EncodeToString(k[:6]) }

// MarshalText writes hex.
func (k KeyID) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads 64 hex digits.
func (k *KeyID) UnmarshalText(text []byte) error {
	if len(text) != 64 {
		return fmt.Errorf("key ID: %d characters, want 64 hex digits", len(text))
	}
	_, err := hex.Decode(k[:], text)
	if err != nil {
		return fmt.Errorf("key ID: %w", err)
	}
	return nil
}

// KeyIDOf checks that spki is a P-256 public key (DER) and returns its ID.
func KeyIDOf(spki []byte) (KeyID, error) {
	if _, err := parseP256(spki); err != nil {
		return KeyID{}, err
	}
	return sha256.Sum256(spki), nil
}

// parseP256 accepts only the encoding that Go writes. Go reads several encodings
// of one key, each with its own KeyID, and revoking one would leave the others.
func parseP256(spki []byte) (*ecdsa.PublicKey, error) {
	pub, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	ec, ok := pub.(*ecdsa.PublicKey)
	if !ok || ec.Curve != elliptic.P256() {
		return nil, errors.New("public key: want ECDSA P-256")
	}
	if again, err := x509.MarshalPKIXPublicKey(ec); err != nil || !bytes.Equal(again, spki) {
		return nil, errors.New("public key: want the usual DER encoding")
	}
	return ec, nil
}

// Key is an ECDSA P-256 private key.
type Key struct {
	private *ecdsa.PrivateKey
	public  []byte
}

// NewKey makes a key.
func NewKey() (*Key, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("new key: %w", err)
	}
	return wrapKey(private)
}

func wrapKey(private *ecdsa.PrivateKey) (*Key, error) {
	public, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	return &Key{private, public}, nil
}

// LoadKey reads a PKCS#8 PEM file. fs.ErrNotExist: there is no such file.
func LoadKey(path string) (*Key, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	k, err := ParseKey(text)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w; restore it from a backup", path, err)
	}
	return k, nil
}

// ParseKey reads what PEM writes.
func ParseKey(text []byte) (*Key, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, errors.New("not a PEM private key")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	private, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || private.Curve != elliptic.P256() {
		return nil, errors.New("want ECDSA P-256")
	}
	return wrapKey(private)
}

// LoadOrCreateKey reads the key, or makes one and writes it (mode 0600).
func LoadOrCreateKey(path string) (*Key, error) {
	k, err := LoadKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	if k, err = NewKey(); err != nil {
		return nil, err
	}
	if err := k.Save(path); err != nil {
		return nil, err
	}
	return k, nil
}

// ReplaceKey writes a new key in the place of one that is of no use any more.
func ReplaceKey(path string) error {
	k, err := NewKey()
	if err != nil {
		return err
	}
	return k.Save(path)
}

// Save writes the key to a file (mode 0600).
func (k *Key) Save(path string) error {
	text, err := k.PEM()
	if err != nil {
		return err
	}
	return WriteFile(path, text, 0o600)
}

// PEM is the private key in the form of its file (PKCS#8).
func (k *Key) PEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k.private)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// ID names the key.
func (k *Key) ID() KeyID { return sha256.Sum256(k.public) }

// Public is the SubjectPublicKeyInfo, DER.
func (k *Key) Public() []byte { return bytes.Clone(k.public) }

// String is the short key ID, so that no log shows the private key.
func (k *Key) String() string { return "key " + k.ID().Short() }

// Signer is the key for crypto/tls and crypto/x509.
func (k *Key) Signer() crypto.Signer { return k.private }

// Sign signs context, a zero byte and msg (SHA-256, ASN.1). A context is a
// fixed ASCII text, different for each kind of thing that is signed. It begins
// with a letter. What TLS signs begins with a space (RFC 8446, 4.4.3) and a
// certificate with the digit 0 (a DER sequence), so no signature is valid for
// another kind of thing.
func (k *Key) Sign(context string, msg []byte) ([]byte, error) {
	sum, err := digest(context, msg)
	if err != nil {
		return nil, err
	}
	sig, err := ecdsa.SignASN1(rand.Reader, k.private, sum[:])
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return sig, nil
}

// ErrSignature says that a signature doesn't verify.
var ErrSignature = errors.New("the signature does not verify")

// VerifySignature checks a signature that Key.Sign made. Errors: ErrSignature.
func VerifySignature(spki []byte, context string, msg, sig []byte) error {
	pub, err := parseP256(spki)
	if err != nil {
		return err
	}
	sum, err := digest(context, msg)
	if err != nil {
		return err
	}
	if !ecdsa.VerifyASN1(pub, sum[:], sig) {
		return ErrSignature
	}
	return nil
}

func digest(context string, msg []byte) ([32]byte, error) {
	for i, c := range []byte(context) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if c < ' ' || c > '~' || i == 0 && !letter {
			return [32]byte{}, fmt.Errorf("signature context %q: want printable ASCII that begins with a letter", context)
		}
	}
	if context == "" {
		return [32]byte{}, errors.New("signature context: none given")
	}
	return sha256.Sum256(slices.Concat([]byte(context), []byte{0}, msg)), nil
}
