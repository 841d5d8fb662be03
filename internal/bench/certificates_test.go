// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"path/filepath"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// farName is the name in the certificate of the proxy beside the servers.
const farName = "far.bench.example"

// certificates is a folder with an authority and a certificate for each of two
// proxies, of the kind that tacit makes: ECDSA P-256.
type certificates string

func (c certificates) authority() string    { return filepath.Join(string(c), "authority.pem") }
func (c certificates) cert(far bool) string { return filepath.Join(string(c), side(far)+".crt") }
func (c certificates) key(far bool) string  { return filepath.Join(string(c), side(far)+".key") }
func (c certificates) both(far bool) string { return filepath.Join(string(c), side(far)+".pem") }

func side(far bool) string {
	if far {
		return "far"
	}
	return "near"
}

func newCertificates(b testing.TB, dir string) certificates {
	b.Helper()
	c := certificates(dir)
	root, rootKey := template("bench authority"), newKey(b)
	root.IsCA, root.KeyUsage, root.BasicConstraintsValid = true, x509.KeyUsageCertSign, true
	testhost.WriteFile(b, c.authority(), sign(b, root, root, rootKey, rootKey))
	for _, far := range []bool{false, true} {
		leaf, key := template(side(far)+".bench.example"), newKey(b)
		leaf.KeyUsage = x509.KeyUsageDigitalSignature
		leaf.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
		leaf.DNSNames = []string{leaf.Subject.CommonName}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		testhost.Must(b, err)
		cert, private := sign(b, leaf, root, key, rootKey), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
		testhost.WriteFile(b, c.cert(far), cert)
		testhost.WriteFile(b, c.key(far), private)
		testhost.WriteFile(b, c.both(far), cert+private)
	}
	return c
}

func template(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
}

func newKey(b testing.TB) *ecdsa.PrivateKey {
	b.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	testhost.Must(b, err)
	return key
}

func sign(b testing.TB, cert, parent *x509.Certificate, key, by *ecdsa.PrivateKey) string {
	b.Helper()
	der, err := x509.CreateCertificate(rand.Reader, cert, parent, key.Public(), by)
	testhost.Must(b, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}
