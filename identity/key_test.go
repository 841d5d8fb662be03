// SPDX-License-Identifier: Apache-2.0

package identity_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tacit/identity"
)

func TestKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "node.key")
	if _, err := identity.LoadKey(path); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("no file: %v", err)
	}
	k, err := identity.LoadOrCreateKey(path)
	must(t, err)
	for p, mode := range map[string]fs.FileMode{path: 0o600, filepath.Dir(path): 0o700 | fs.ModeDir} {
		if st, err := os.Stat(p); err != nil || st.Mode() != mode {
			t.Errorf("%s: %v, %v; want %v", filepath.Base(p), st.Mode(), err, mode)
		}
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Errorf("files left beside the key: %v", left)
	}
	again, err := identity.LoadOrCreateKey(path)
	if err != nil || again.ID() != k.ID() || !bytes.Equal(again.Public(), k.Public()) {
		t.Errorf("loaded another key: %v", err)
	}
}

// A key that can't be read is never replaced by a new one.
func TestKeyFileCorrupt(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(t, err)
	other, err := x509.MarshalPKCS8PrivateKey(p384)
	must(t, err)
	for name, text := range map[string][]byte{
		"empty": nil, "zeros": make([]byte, 300), "text": []byte("hello"),
		"cut":   pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: other[:20]}),
		"P-384": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: other}),
		"type":  pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: other}),
	} {
		path := filepath.Join(t.TempDir(), "k")
		must(t, os.WriteFile(path, text, 0o600))
		if k, err := identity.LoadOrCreateKey(path); err == nil || k != nil {
			t.Errorf("%s: accepted", name)
		}
		if now, _ := os.ReadFile(path); !bytes.Equal(now, text) {
			t.Errorf("%s: the file was changed", name)
		}
	}
}

func TestSign(t *testing.T) {
	k, other := newKey(t), newKey(t)
	sig, err := k.Sign("tacit test v1", []byte("m"))
	must(t, err)
	must(t, identity.VerifySignature(k.Public(), "tacit test v1", []byte("m"), sig))
	for name, err := range map[string]error{
		"key":     identity.VerifySignature(other.Public(), "tacit test v1", []byte("m"), sig),
		"context": identity.VerifySignature(k.Public(), "tacit test v2", []byte("m"), sig),
		"message": identity.VerifySignature(k.Public(), "tacit test v1", []byte("n"), sig),
		"border":  identity.VerifySignature(k.Public(), "tacit test v", append([]byte("1\x00"), 'm'), sig),
		"empty":   identity.VerifySignature(k.Public(), "tacit test v1", []byte("m"), nil),
		"cut":     identity.VerifySignature(k.Public(), "tacit test v1", []byte("m"), sig[:len(sig)-1]),
	} {
		if !errors.Is(err, identity.ErrSignature) {
			t.Errorf("another %s: %v", name, err)
		}
	}
	tls13 := strings.Repeat(" ", 64) + "TLS 1.3, server CertificateVerify"
	for _, context := range []string{"", tls13, "0\x82", "a\x00b", "ä"} {
		if _, err := k.Sign(context, nil); err == nil {
			t.Errorf("context %q: signed", context)
		}
	}
}

// Go reads each of these as a P-256 key; only one encoding is accepted, so that
// one key has one ID.
func TestPublicKeyEncodings(t *testing.T) {
	k := newKey(t)
	id, err := identity.KeyIDOf(k.Public())
	if err != nil || id != k.ID() {
		t.Fatalf("%v, %v", id, err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(t, err)
	other, err := x509.MarshalPKIXPublicKey(p384.Public())
	must(t, err)
	for name, spki := range map[string][]byte{
		"nothing": nil, "cut": k.Public()[:40], "trailing": append(k.Public(), 0), "P-384": other,
		"shifted": shifted(t, k.Public()), "longer sequence": longer(t, k.Public()),
	} {
		if id, err := identity.KeyIDOf(spki); err == nil {
			t.Errorf("%s: accepted as %s", name, id)
		}
		if err := identity.VerifySignature(spki, "tacit test v1", nil, nil); err == nil || errors.Is(err, identity.ErrSignature) {
			t.Errorf("%s: %v, want a refusal of the key", name, err)
		}
	}
}

type spkiForm struct {
	Algorithm asn1.RawValue
	Key       asn1.BitString
}

// shifted moves the point three bits to the left, over the zero bits before it.
func shifted(t *testing.T, spki []byte) []byte {
	t.Helper()
	var form spkiForm
	_, err := asn1.Unmarshal(spki, &form)
	must(t, err)
	in := form.Key.Bytes
	out := make([]byte, len(in))
	for i := range in {
		out[i] = in[i] << 3
		if i+1 < len(in) {
			out[i] |= in[i+1] >> 5
		}
	}
	form.Key = asn1.BitString{Bytes: out, BitLength: 8*len(out) - 3}
	return readable(t, form)
}

// longer adds an element to the algorithm's sequence.
func longer(t *testing.T, spki []byte) []byte {
	t.Helper()
	var form spkiForm
	_, err := asn1.Unmarshal(spki, &form)
	must(t, err)
	form.Algorithm = asn1.RawValue{Class: 0, Tag: asn1.TagSequence, IsCompound: true, Bytes: append(form.Algorithm.Bytes, 5, 0)}
	return readable(t, form)
}

// readable shows that Go itself accepts the encoding.
func readable(t *testing.T, form spkiForm) []byte {
	t.Helper()
	der, err := asn1.Marshal(form)
	must(t, err)
	_, err = x509.ParsePKIXPublicKey(der)
	must(t, err)
	return der
}

func TestKeyIDText(t *testing.T) {
	id := newKey(t).ID()
	text, err := json.Marshal(map[identity.KeyID]identity.KeyID{id: id})
	must(t, err)
	var back map[identity.KeyID]identity.KeyID
	must(t, json.Unmarshal(text, &back))
	if back[id] != id || !strings.HasPrefix(id.String(), id.Short()) || len(id.Short()) != 12 {
		t.Errorf("%s: %v", text, back)
	}
	for _, bad := range []string{"", "ab", strings.Repeat("g", 64), id.String() + "0"} {
		if err := new(identity.KeyID).UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q: accepted", bad)
		}
	}
}

// No way of printing a key shows the private key.
func TestKeyPrintsNothing(t *testing.T) {
	k := newKey(t)
	secret := k.Signer().(*ecdsa.PrivateKey)
	raw, err := secret.Bytes()
	must(t, err)
	text, _ := json.Marshal(map[string]any{"key": k})
	all := fmt.Sprintf("%v %+v %#v %s %s", k, k, k, k, text)
	for _, form := range []string{fmt.Sprintf("%x", raw), fmt.Sprint(raw), new(big.Int).SetBytes(raw).String()} {
		if strings.Contains(all, form) {
			t.Errorf("the secret is in %q", all)
		}
	}
}
