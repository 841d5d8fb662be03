// SPDX-License-Identifier: Apache-2.0

package battery

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io/fs"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// ports: a client of the ports that the daemons listen on reaches nothing and is
// disconnected upon its first bytes, within PROMPT of testdata/common.py.
func (f *fixture) ports(t *testing.T) {
	testhost.Must(t, os.WriteFile(f.place("{cert}"), otherAuthoritysCertificate(t), 0o644))
	var rows []row
	for i, h := range []*testhost.Host{f.host1, f.host2} {
		node := []string{"", "2"}[i]
		near := []string{"nobody" + node, "web" + node, "evil" + node}
		far := []string{"outside", []string{"nobody2", "nobody"}[i], []string{"box nobody", "stray2"}[i]}
		for _, at := range f.listening(t, h) {
			rows = append(rows, portRows(h, at, near, far)...)
		}
	}
	f.rows(t, up, append(rows, f.fileRows(t)...))
}

// portRows are the rows for one listening address, of callers on its node (near) and
// on others (far).
func portRows(h *testhost.Host, at string, near, far []string) []row {
	const vector = "the daemon's own ports"
	const shut = "closed|" + refused
	port := at[strings.LastIndex(at, ":")+1:]
	own := []string{"127.0.0.1:" + port, "[::1]:" + port, h.Addr.String() + ":" + port, "[" + h.Addr6.String() + "]:" + port}
	loopback := strings.Contains(at, "127.") || strings.Contains(at, "[::1]")
	words := []string{"say=garbage", "say=http target={real4}:{port}", "say=get target={real4}:{port}", "say=socks4 target={real4}:{port}",
		"say=socks5 target={real4}:{port}", "say=proxy target={real4}:{port}", "say=tls", "say=tls cert={cert}", "say=tls alpn=tacit-lane cert={cert}"}
	rows := cross(vector, shut, near[:1], own, words)
	rows = append(rows, cross(vector, shut, near, own, []string{"say=canary target={real4}:{port}", "mark=0x1000 say=canary target={real4}:{port}"})...)
	if loopback {
		return free(append(rows, cross(vector, refused, far, own[2:], []string{"say=canary target={real4}:{port}"})...))
	}
	rows = append(rows, cross(vector, shut, far[:1], own[2:], words)...)
	return free(append(rows, cross(vector, shut+"|connect: timeout", far, own[2:], []string{"say=canary target={real4}:{port}"})...))
}

// listening are the addresses of a host's daemon, one for each port.
func (f *fixture) listening(t *testing.T, h *testhost.Host) []string {
	t.Helper()
	out, _ := h.Run(t, "user", "ss", "-Hltnp")
	names, _ := h.Run(t, "user", "ss", "-Hlunp")
	var places []string
	for _, m := range regexp.MustCompile(`LISTEN\s+\d+\s+\d+\s+(\S+)\s.*"tacitd"`).FindAllStringSubmatch(out, -1) {
		if gossip := strings.HasSuffix(m[1], ":7946"); gossip || !strings.Contains(names, " "+m[1]+" ") { // DNS over TCP waits for the rest of a query
			places = append(places, m[1])
		}
	}
	if len(places) < 4 { // two for captured connections, one for lanes, one for gossip
		t.Fatalf("the daemon listens on %v only: %s", places, out)
	}
	slices.Sort(places)
	return places
}

// fileRows: an unprivileged user can open none of the daemon's files, pins and
// sockets.
func (f *fixture) fileRows(t *testing.T) []row {
	t.Helper()
	const vector = "the daemon's files and sockets"
	var rows []row
	for _, dir := range []string{f.host1.State, f.host1.BPF} {
		testhost.Must(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if path == dir {
				return err
			}
			rows = append(rows, free(cross(vector, "open: EACCES", []string{"nobody"}, []string{"0.0.0.0:0"}, []string{"uid=65534 open=" + path}))...)
			return err
		}))
	}
	if len(rows) < 20 {
		t.Errorf("only %d files", len(rows))
	}
	return append(rows, free(cross(vector, "open: EACCES|open: ECONNREFUSED", []string{"nobody"}, []string{"0.0.0.0:0"}, []string{"uid=65534 open={run}/tacit.sock"}))...)
}

// otherAuthoritysCertificate has the name of a node of this mesh and is signed by
// another authority.
func otherAuthoritysCertificate(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	testhost.Must(t, err)
	name, err := url.Parse("spiffe://tacit.local/node/host2")
	testhost.Must(t, err)
	text := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "host2"}, URIs: []*url.URL{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}}
	cert, err := x509.CreateCertificate(rand.Reader, text, text, key.Public(), key)
	testhost.Must(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	testhost.Must(t, err)
	return fmt.Appendf(nil, "%s%s", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
}
