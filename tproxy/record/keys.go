// SPDX-License-Identifier: Apache-2.0

package record

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"hash"

	"golang.org/x/crypto/chacha20poly1305"
)

// suite is a cipher suite of TLS 1.3 (RFC 8446, B.4).
type suite struct {
	hash   func() hash.Hash
	keyLen int
	aead   func(key []byte) (cipher.AEAD, error)
}

// suiteOf knows every suite that crypto/tls can agree on.
func suiteOf(id uint16) (suite, error) {
	switch id {
	case tls.TLS_AES_128_GCM_SHA256:
		return suite{sha256.New, 16, gcm}, nil
	case tls.TLS_AES_256_GCM_SHA384:
		return suite{sha512.New384, 32, gcm}, nil
	case tls.TLS_CHACHA20_POLY1305_SHA256:
		return suite{sha256.New, chacha20poly1305.KeySize, chacha20poly1305.New}, nil
	}
	return suite{}, fmt.Errorf("no record layer for the cipher suite %s", tls.CipherSuiteName(id))
}

func gcm(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// expand is HKDF-Expand-Label with an empty context (RFC 8446, 7.1).
func (s suite) expand(secret []byte, label string, n int) ([]byte, error) {
	label = "tls13 " + label
	info := binary.BigEndian.AppendUint16(nil, uint16(n))
	info = append(info, byte(len(label)))
	info = append(info, label...)
	info = append(info, 0)
	return hkdf.Expand(s.hash, secret, string(info), n)
}

// keys protect one direction of a connection. Sealer and Opener point to them, so
// that neither shows a secret when it is printed.
type keys struct {
	suite  suite
	secret []byte // the traffic secret from which the key and the next secret are derived
	aead   cipher.AEAD
	iv     nonce
	nonce  nonce  // of the present record
	seq    uint64 // number of the next record under this key
}

type nonce [12]byte

// newKeys owns secret from then on.
func newKeys(s suite, secret []byte) (*keys, error) {
	if want := s.hash().Size(); len(secret) != want {
		return nil, fmt.Errorf("a traffic secret of %d bytes, not %d", len(secret), want)
	}
	k := &keys{suite: s, secret: secret}
	return k, k.derive()
}

// derive makes key and IV of the secret (RFC 8446, 7.3).
func (k *keys) derive() error {
	key, err := k.suite.expand(k.secret, "key", k.suite.keyLen)
	if err != nil {
		return err
	}
	defer clear(key)
	iv, err := k.suite.expand(k.secret, "iv", len(k.iv))
	if err != nil {
		return err
	}
	copy(k.iv[:], iv)
	k.seq = 0
	k.aead, err = k.suite.aead(key)
	return err
}

// update goes on to the next secret (RFC 8446, 7.2); the present one is erased.
func (k *keys) update() error {
	next, err := k.suite.expand(k.secret, "traffic upd", len(k.secret))
	if err != nil {
		return err
	}
	clear(k.secret)
	k.secret = next
	return k.derive()
}

// next is the nonce of the next record (RFC 8446, 5.3). The caller must have
// checked that the numbers don't wrap.
func (k *keys) next() []byte {
	k.nonce = k.iv
	low := k.nonce[len(k.nonce)-8:]
	binary.BigEndian.PutUint64(low, binary.BigEndian.Uint64(low)^k.seq)
	k.seq++
	return k.nonce[:]
}
