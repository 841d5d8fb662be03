// SPDX-License-Identifier: Apache-2.0

package reality

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tacit/internal/testhost"
)

const bigSize = 30 << 20

// startNginx serves a page that names the protocol, and a big file: HTTP/1.1, HTTP/2 in
// clear text, or HTTP/2 over the service's own TLS.
func startNginx(t *testing.T, f *fixture, s program) {
	files, listen := map[string]string{"big": strings.Repeat("0123456789abcdef", bigSize/16)}, ""
	switch s.service {
	case "api":
		listen = " http2"
	case "secure":
		files["cert.pem"], files["key.pem"] = certificate(t, s.service)
		listen = " ssl http2"
	}
	dir := f.dir(t, s, files)
	testhost.Must(t, os.Chmod(dir, 0o755))
	conf := nginxConf(dir, fmt.Sprintf(`
	listen %d%s;
	location = / { return 200 "$server_protocol %s\n"; }
	location = /slow { limit_rate 50k; alias %s/big; } # the client has read all that has come when it is cut
	client_max_body_size 64m; # /post reads the body, passes it on to nobody, and answers
	location = /post { proxy_pass http://127.0.0.1:9; error_page 502 =200 /; }`, s.port, listen, s.service, dir))
	if s.service == "secure" {
		conf = strings.Replace(conf, "listen", "ssl_certificate cert.pem; ssl_certificate_key key.pem;\n\tlisten", 1)
	}
	testhost.WriteFile(t, filepath.Join(dir, "nginx.conf"), conf)
	own(t, s.user, dir)
	f.serve(t, s, "nginx", "-e", "stderr", "-p", dir, "-c", "nginx.conf")
}

// nginxConf is a configuration with one server, whose files are all in one directory.
func nginxConf(dir, server string) string {
	var temporary strings.Builder
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&temporary, "%s_temp_path %s;\n", kind, filepath.Join(dir, kind))
	}
	return fmt.Sprintf("daemon off; pid %s; worker_processes 2;\nevents { }\nhttp {\nlog_format one \"$uri $status\"; access_log %s one;\n%sserver {\n\troot %s;%s\n}\n}\n",
		filepath.Join(dir, "pid"), filepath.Join(dir, "access.log"), &temporary, dir, server)
}

// certificate makes a certificate that is its own authority, for a service's plain name.
func certificate(t *testing.T, name string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	testhost.Must(t, err)
	plain := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, plain, plain, private.Public(), private)
	testhost.Must(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	testhost.Must(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
}

func (f *fixture) nginx(t *testing.T) {
	f.from(t, func(t *testing.T, h *testhost.Host) {
		for _, c := range []struct{ url, version, flags string }{
			{"http://web", "1.1", ""},
			{"http://api", "2", "--http2-prior-knowledge"},
			{"https://secure", "2", "--cacert $DIR/secure/cert.pem"},
		} {
			t.Run(c.url, func(t *testing.T) { f.curl(t, h, c.url, c.version, c.flags) })
		}
	})
}

func (f *fixture) curl(t *testing.T, h *testhost.Host, url, version, flags string) {
	curl := f.line("curl -sS --fail --max-time 20 " + flags + " ")
	says(t, h, version+" 200", "sh", "-c", curl+"-o /dev/null -w '%{http_version} %{response_code}' "+url+"/")
	if strings.Contains(flags, "prior-knowledge") {
		f.transfers(t, h, curl, url)
		return // curl 7.88 fails at the second request of such a connection, without a mesh too
	}
	// Thirty requests, on one connection and side by side.
	if out := says(t, h, "", "sh", "-c", curl+"'"+url+"/?[1-30]'"); strings.Count(out, "HTTP/") != 30 {
		t.Errorf("one after the other: %s", out)
	}
	if out := says(t, h, "", "sh", "-c", curl+"--parallel --parallel-max 30 '"+url+"/?[1-30]'"); strings.Count(out, "HTTP/") != 30 {
		t.Errorf("in parallel: %s", out)
	}
	f.transfers(t, h, curl, url)
}

// transfers is a big file from the server, and one to it.
func (f *fixture) transfers(t *testing.T, h *testhost.Host, curl, url string) {
	t.Helper()
	out := says(t, h, "", "sh", "-c", curl+url+"/big | cksum; cksum < "+f.here.Dir+"/web/big")
	if lines := strings.Fields(out); len(lines) != 4 || lines[0] != lines[2] || lines[1] != lines[3] {
		t.Errorf("a file of %d bytes: %s", bigSize, out)
	}
	says(t, h, fmt.Sprintf("%d 200", bigSize), "sh", "-c", curl+"-o /dev/null -w '%{size_upload} %{response_code}' --data-binary @"+f.here.Dir+"/web/big "+url+"/post")
}
