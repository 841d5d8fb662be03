// SPDX-License-Identifier: Apache-2.0

package record

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// openssl is a run of openssl s_client or s_server. What it is told goes to its
// peer, except for a line that begins with a command's letter; what its peer sends
// is in its output, among words of its own.
type openssl struct {
	io.Writer
	turns int // of both
	mu    sync.Mutex
	out   bytes.Buffer
}

// text is what openssl has written, without what s_server says where a record has
// no data.
func (o *openssl) text() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.ReplaceAll(o.out.String(), "Read BLOCK\n", "")
}

// output is where the process writes.
type output struct{ *openssl }

func (o output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.out.Write(b)
}

// says waits until openssl has written something.
func (o *openssl) says(t *testing.T, what string) {
	t.Helper()
	testhost.Eventually(t, deadline, fmt.Sprintf("%.40q from openssl", what), func() error {
		if text := o.text(); !strings.Contains(text, what) {
			return fmt.Errorf("it says %d bytes that end with %q", len(text), text[max(0, len(text)-200):])
		}
		return nil
	})
}

func start(t *testing.T, args ...string) *openssl {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "openssl", args...)
	in, err := cmd.StdinPipe()
	testhost.Must(t, err)
	o := &openssl{Writer: in}
	cmd.Stdout, cmd.Stderr = output{o}, output{o}
	testhost.Must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Wait() })
	return o
}

// files are a certificate and its key as openssl reads them.
func files(t *testing.T, c tls.Certificate) (cert, key string) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	testhost.Must(t, err)
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(t.TempDir(), name)
		testhost.Must(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
		return path
	}
	return write("cert.pem", "CERTIFICATE", c.Certificate[0]), write("key.pem", "PRIVATE KEY", der)
}

// meetOpenssl is a connection between Layer and openssl, with certificates of both.
func meetOpenssl(t *testing.T, client bool, id uint16) (*stream, *openssl) {
	t.Helper()
	cfg := config(t)
	cert, key := files(t, cfg.Certificates[0])
	args := []string{"-tls1_3", "-ciphersuites", tls.CipherSuiteName(id), "-cert", cert, "-key", key}
	conn, peer := reach(t, client, args)
	testhost.Must(t, conn.SetDeadline(time.Now().Add(deadline)))
	t.Cleanup(func() { _ = conn.Close() })
	c := ours(t, conn, client, cfg)
	handshakes(t, c)
	if got := c.ConnectionState().CipherSuite; got != id {
		t.Fatalf("the suite is %s", tls.CipherSuiteName(got))
	}
	return take(t, c), peer
}

// reach connects with openssl, as the end that it isn't.
func reach(t *testing.T, client bool, args []string) (net.Conn, *openssl) {
	t.Helper()
	if client {
		peer := start(t, append([]string{"s_server", "-accept", "127.0.0.1:0", "-num_tickets", "0", "-Verify", "1", "-naccept", "1"}, args...)...)
		peer.says(t, "ACCEPT 127.0.0.1:")
		var at []string
		testhost.Eventually(t, deadline, "a whole line", func() error {
			if at = regexp.MustCompile(`ACCEPT (\S+)\n`).FindStringSubmatch(peer.text()); at == nil {
				return errors.New("not yet")
			}
			return nil
		})
		conn, err := net.Dial("tcp", at[1])
		testhost.Must(t, err)
		return conn, peer
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	testhost.Must(t, err)
	defer ln.Close()
	peer := start(t, append([]string{"s_client", "-connect", ln.Addr().String()}, args...)...)
	testhost.Must(t, ln.(*net.TCPListener).SetDeadline(time.Now().Add(deadline)))
	conn, err := ln.Accept()
	testhost.Must(t, err)
	return conn, peer
}

// digits are data that openssl takes for no command.
func digits(n int) []byte {
	out := noise(n)
	for i, b := range out {
		out[i] = '0' + b%10
	}
	return out
}

// both sends data both ways.
func both(t *testing.T, s *stream, peer *openssl, n int) {
	t.Helper()
	peer.turns++ // so that no data are those of before
	data := fmt.Appendf(nil, "%d%s\n", 1_000_000+peer.turns, digits(n))
	_, err := s.Write(data)
	testhost.Must(t, err)
	peer.says(t, string(data))
	sent := make(chan error, 1)
	go func() { _, err := peer.Write(data); sent <- err }()
	got, err := s.read(len(data))
	testhost.Must(t, errors.Join(err, <-sent))
	same(t, "openssl's data", got, data)
}

// TestOpenssl: openssl at the other end, whichever end that is, in every suite.
// Both change their keys, asked and unasked.
func TestOpenssl(t *testing.T) {
	for _, id := range ids() {
		for name, client := range roles() {
			t.Run(tls.CipherSuiteName(id)+" "+name, func(t *testing.T) {
				s, peer := meetOpenssl(t, client, id)
				both(t, s, peer, 1<<19)
				theyUpdate(t, s, peer)
				weUpdate(t, s, peer)
				parts(t, s, peer, client)
			})
		}
	}
}

// theyUpdate has openssl change its key: k doesn't ask for our next key, K does.
func theyUpdate(t *testing.T, s *stream, peer *openssl) {
	t.Helper()
	for i, command := range []string{"k\n", "K\n", "K\n"} {
		was := s.Sealer.keys.iv
		_, err := io.WriteString(peer, command)
		testhost.Must(t, err)
		if data, err := s.next(); data != nil || err != nil {
			t.Fatalf("%q: %q, %v", command, data, err)
		}
		if s.NeedUpdate() != (command == "K\n") || s.updates != updateBurst-i-1 {
			t.Fatalf("%q: an update is due: %v; %d left", command, s.NeedUpdate(), s.updates)
		}
		both(t, s, peer, 1000)
		if changed := s.Sealer.keys.iv != was; changed != (command == "K\n") {
			t.Errorf("%q: our key has changed: %v", command, changed)
		}
	}
}

// weUpdate changes our key by the limit, and asks for openssl's next key.
func weUpdate(t *testing.T, s *stream, peer *openssl) {
	t.Helper()
	s.Sealer.limit, s.size = 5, 100
	both(t, s, peer, 10_000)
	s.Sealer.limit = keyLimit
	left := s.updates
	buf := make([]byte, UpdateSize)
	_, err := s.Sealer.update(buf, updateRequested)
	testhost.Must(t, err)
	_, err = s.conn.Write(buf)
	testhost.Must(t, err)
	both(t, s, peer, 1000)
	if s.updates != left-1 {
		t.Errorf("openssl has changed its key %d times", left-s.updates)
	}
}

// parts ends the connection: a server's openssl by its command, a client's because
// we say so.
func parts(t *testing.T, s *stream, peer *openssl, client bool) {
	t.Helper()
	if client {
		_, err := io.WriteString(peer, "Q\n")
		testhost.Must(t, err)
		if _, err := s.next(); err != io.EOF {
			t.Errorf("openssl's close_notify: %v", err)
		}
		return
	}
	buf := make([]byte, EndSize)
	_, err := s.End(buf, nil)
	testhost.Must(t, err)
	_, err = s.conn.Write(buf)
	testhost.Must(t, err)
	peer.says(t, "\nclosed\n") // an end without close_notify is an errno
}
