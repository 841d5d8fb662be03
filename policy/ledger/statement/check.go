// SPDX-License-Identifier: Apache-2.0

package statement

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"unicode"
	"unicode/utf8"

	"tacit/identity"
)

// publicKey returns the ID of a P-256 key. Only one encoding is accepted: another
// would have another ID, and escape a revocation.
func publicKey(spki []byte) (identity.KeyID, error) {
	key, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return identity.KeyID{}, fmt.Errorf("public key: %w", err)
	}
	if k, ok := key.(*ecdsa.PublicKey); !ok || k.Curve != elliptic.P256() {
		return identity.KeyID{}, errors.New("public key: use ECDSA P-256")
	}
	again, err := x509.MarshalPKIXPublicKey(key)
	if err != nil || !bytes.Equal(again, spki) {
		return identity.KeyID{}, errors.New("public key: not in canonical DER")
	}
	return sha256.Sum256(spki), nil
}

// CertificateKey returns the ID of a CA certificate's key.
func CertificateKey(der []byte) (identity.KeyID, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return identity.KeyID{}, fmt.Errorf("certificate: %w", err)
	}
	if !cert.IsCA || !cert.BasicConstraintsValid {
		return identity.KeyID{}, errors.New("certificate: not a CA certificate")
	}
	return publicKey(cert.RawSubjectPublicKeyInfo)
}

// CheckNames accepts names in the form that is stored.
func CheckNames(names ...identity.Name) error {
	for _, n := range names {
		if err := exact(n, identity.ParseName); err != nil {
			return err
		}
	}
	return nil
}

// CheckSource accepts the name of a service or of an ingress.
func CheckSource(n identity.Name) error { return exact(n, identity.ParseSource) }

func exact(n identity.Name, parse func(string) (identity.Name, error)) error {
	p, err := parse(string(n))
	if err == nil && p != n {
		return fmt.Errorf("name %q must be lower case", n)
	}
	return err
}

func checkAddress(s string) error {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return fmt.Errorf("address: %w", err)
	}
	if a.String() != s || a.Is4In6() || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() {
		return fmt.Errorf("address %.60q: use one unicast IP in canonical form", s)
	}
	return nil
}

// CheckID accepts visible ASCII without spaces.
func CheckID(id string) error {
	if id == "" || len(id) > 128 {
		return fmt.Errorf("id of %d bytes: use 1 to 128", len(id))
	}
	for _, c := range []byte(id) {
		if c <= ' ' || c > '~' {
			return fmt.Errorf("id %q: use visible ASCII without spaces", id)
		}
	}
	return nil
}

// CheckText accepts text that can be shown on a terminal.
func CheckText(what, s string, limit int) error {
	if len(s) > limit {
		return fmt.Errorf("%s of %d bytes: at most %d", what, len(s), limit)
	}
	if !utf8.ValidString(s) {
		return fmt.Errorf("%s isn't UTF-8", what)
	}
	for _, r := range s {
		if unicode.IsControl(r) {
			return fmt.Errorf("%s holds control characters", what)
		}
	}
	return nil
}

// checkLists applies Consul's limits: 64 pairs, keys of 128, values of 512.
func checkLists(tags []string, meta map[string]string) error {
	if len(tags) > 64 || len(meta) > 64 {
		return fmt.Errorf("%d tags and %d meta pairs: at most 64 of each", len(tags), len(meta))
	}
	var errs []error
	for _, t := range tags {
		errs = append(errs, CheckText("tag", t, 255))
	}
	for k, v := range meta {
		errs = append(errs, CheckText("meta key", k, 128), CheckText("meta value", v, 512))
	}
	return errors.Join(errs...)
}
