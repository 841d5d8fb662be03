// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"time"
)

// SVID is an X.509-SVID, a certificate chain with the leaf first, and its key.
type SVID struct {
	ID    ID
	Chain []*x509.Certificate
	Key   *Key
}

// TLS is the SVID in the form that crypto/tls uses.
func (s *SVID) TLS() tls.Certificate {
	out := tls.Certificate{PrivateKey: s.Key.Signer(), Leaf: s.Chain[0]}
	for _, c := range s.Chain {
		out.Certificate = append(out.Certificate, c.Raw)
	}
	return out
}

// RenewAt is the leaf's half life plus or minus up to a tenth of its life; rand
// is in [0, 1).
func (s *SVID) RenewAt(rand float64) time.Time {
	leaf := s.Chain[0]
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	return leaf.NotBefore.Add(life/2 + time.Duration((rand-0.5)*0.2*float64(life)))
}

// Save writes the chain as PEM.
func (s *SVID) Save(path string) error { return WriteFile(path, EncodeChain(s.Chain), 0o600) }

// ErrOtherKey means that a certificate isn't for the key that it came with.
var ErrOtherKey = errors.New("its public key is not that of the key beside it")

// LoadSVID reads the chain that Save wrote, which must be key's.
func LoadSVID(path string, key *Key) (*SVID, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	chain, err := DecodeChain(text)
	if err != nil {
		return nil, fmt.Errorf("certificate %s: %w", path, err)
	}
	if !bytes.Equal(chain[0].RawSubjectPublicKeyInfo, key.Public()) {
		return nil, fmt.Errorf("certificate %s: %w", path, ErrOtherKey)
	}
	id, err := certificateID(chain[0])
	if err != nil {
		return nil, fmt.Errorf("certificate %s: %w", path, err)
	}
	return &SVID{ID: id, Chain: chain, Key: key}, nil
}

// EncodeChain writes certificates as PEM, in order.
func EncodeChain(chain []*x509.Certificate) []byte {
	var out bytes.Buffer
	for _, c := range chain {
		out.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	return out.Bytes()
}

// DecodeChain reads 1 to maxChain PEM certificates.
func DecodeChain(text []byte) ([]*x509.Certificate, error) {
	var ders [][]byte
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("certificate chain: it has a PEM block %q, want only CERTIFICATE", block.Type)
		}
		ders = append(ders, block.Bytes)
	}
	return parseChain(ders)
}

const (
	maxChain       = 4        // leaf and intermediate, and two more during a root rotation
	maxCertificate = 16 << 10 // bytes of DER; ours have less than 1 KiB
)

func parseChain(ders [][]byte) ([]*x509.Certificate, error) {
	if len(ders) == 0 || len(ders) > maxChain {
		return nil, fmt.Errorf("certificate chain: %d certificates, want 1 to %d", len(ders), maxChain)
	}
	var chain []*x509.Certificate
	for _, der := range ders {
		if len(der) > maxCertificate {
			return nil, fmt.Errorf("certificate: %d bytes, at most %d", len(der), maxCertificate)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("certificate: %w", err)
		}
		chain = append(chain, c)
	}
	return chain, nil
}
