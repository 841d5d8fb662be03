// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
)

// Agree returns 32 secret bytes that only the holders of this key and of the
// private key of spki can compute: P-256 Diffie-Hellman (NIST SP 800-56A) and HKDF
// (RFC 5869). Other contexts give independent secrets. It never changes, so it must
// only encrypt what may be read later by a thief of one of the keys.
func (k *Key) Agree(spki []byte, context string) ([]byte, error) {
	other, err := parseP256(spki)
	if err != nil {
		return nil, err
	}
	public, err := other.ECDH()
	if err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	private, err := k.private.ECDH()
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", k.ID().Short(), err)
	}
	shared, err := private.ECDH(public)
	if err != nil {
		return nil, fmt.Errorf("key agreement: %w", err)
	}
	return hkdf.Key(sha256.New, shared, nil, context, sha256.Size)
}
