// SPDX-License-Identifier: Apache-2.0

package record

import (
	"bytes"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"tacit/internal/testhost"
)

// TestRefusedConfigs: what would put secrets elsewhere, or allow what isn't here.
func TestRefusedConfigs(t *testing.T) {
	for what, change := range map[string]func(*tls.Config){
		"has a key log":               func(c *tls.Config) { c.KeyLogWriter = io.Discard },
		"allows versions before 1.3":  func(c *tls.Config) { c.MinVersion = tls.VersionTLS12 },
		"allows session tickets":      func(c *tls.Config) { c.SessionTicketsDisabled = false },
		"allows versions before 1.3 ": func(c *tls.Config) { c.MinVersion = 0 },
	} {
		cfg := config(t)
		change(cfg)
		for _, begin := range []func(net.Conn, *tls.Config) (*tls.Conn, error){Client, Server} {
			if _, err := begin(nil, cfg); err == nil || !strings.Contains(err.Error(), strings.TrimSpace(what)) {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	cfg := config(t)
	_ = ours(t, nil, true, cfg)
	if cfg.KeyLogWriter != nil {
		t.Error("the caller's configuration was changed")
	}
}

// TestTakeRefuses: a connection that isn't at its first record.
func TestTakeRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		says string
		make func(t *testing.T) *tls.Conn
	}{
		"not ours": {"wasn't made by", func(t *testing.T) *tls.Conn {
			near, _ := tcp(t)
			return tls.Client(near, config(t))
		}},
		"no handshake": {"isn't complete", func(t *testing.T) *tls.Conn {
			near, _ := tcp(t)
			return ours(t, near, true, config(t))
		}},
		"twice": {"has been taken over", func(t *testing.T) *tls.Conn {
			c := established(t, false, nil)
			take(t, c)
			return c
		}},
		"client wrote": {"has written data", func(t *testing.T) *tls.Conn {
			c := established(t, true, nil)
			_, err := c.Write([]byte("x"))
			testhost.Must(t, err)
			return c
		}},
		"server wrote": {"has written data", func(t *testing.T) *tls.Conn {
			c := established(t, false, nil)
			_, err := c.Write([]byte("x"))
			testhost.Must(t, err)
			return c
		}},
		"another configuration": {"had another configuration", func(t *testing.T) *tls.Conn {
			other := config(t)
			return established(t, false, func(*tls.ClientHelloInfo) (*tls.Config, error) { return other, nil })
		}},
	} {
		t.Run(name, func(t *testing.T) {
			if _, _, err := Take(c.make(t)); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error: %v", err)
			}
		})
	}
}

// TestTakeOfSameConfig: a GetConfigForClient that only refuses changes nothing.
func TestTakeOfSameConfig(t *testing.T) {
	asked := false
	take(t, established(t, false, func(*tls.ClientHelloInfo) (*tls.Config, error) { asked = true; return nil, nil }))
	if !asked {
		t.Error("GetConfigForClient wasn't called")
	}
}

// established is one end of a connection whose handshake is done.
func established(t *testing.T, client bool, forClient func(*tls.ClientHelloInfo) (*tls.Config, error)) *tls.Conn {
	t.Helper()
	near, far := tcp(t)
	cfg := config(t)
	cfg.GetConfigForClient = forClient
	c := ours(t, near, client, cfg)
	handshakes(t, c, theirs(far, !client, config(t)))
	return c
}

// TestTaken: crypto/tls can neither read nor write afterwards, so that no record
// number is used twice; its Close closes. Its state stays.
func TestTaken(t *testing.T) {
	near, far := tcp(t)
	cfg := config(t)
	c, peer := ours(t, near, true, cfg), theirs(far, false, cfg)
	handshakes(t, c, peer)
	take(t, c)
	here, there := c.ConnectionState(), peer.ConnectionState()
	ours, err := here.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32)
	testhost.Must(t, err)
	theirs, err := there.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32)
	testhost.Must(t, err)
	same(t, "exported", ours, theirs)
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, errTaken) {
		t.Errorf("read: %v", err)
	}
	if _, err := c.Write([]byte("x")); !errors.Is(err, errTaken) {
		t.Errorf("write: %v", err)
	}
	if err := c.Close(); !errors.Is(err, errTaken) {
		t.Errorf("close: %v", err)
	}
	if n, err := far.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("the peer has read %d bytes, %v", n, err)
	}
}

// tap keeps what goes over a connection.
type tap struct {
	net.Conn
	mu  sync.Mutex
	all bytes.Buffer
}

func (c *tap) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.keep(b[:n])
	return n, err
}

func (c *tap) Write(b []byte) (int, error) {
	c.keep(b)
	return c.Conn.Write(b)
}

func (c *tap) keep(b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all.Write(b)
}

// TestSecretsStayInMemory: they are on no wire, in no file, in nothing that is
// printed; the package imports nothing that could bring them elsewhere.
func TestSecretsStayInMemory(t *testing.T) {
	dir := t.TempDir()
	source, err := os.Getwd()
	testhost.Must(t, err)
	t.Chdir(dir)
	t.Setenv("TMPDIR", dir)
	t.Setenv("SSLKEYLOGFILE", filepath.Join(dir, "keys"))
	near, far := tcp(t)
	wire := &tap{Conn: near}
	cfg := config(t)
	c, peer := ours(t, wire, true, cfg), theirs(far, false, cfg)
	handshakes(t, c, peer)
	transport := c.NetConn().(*Transport)
	printed := fmt.Sprintf("%v %+v %#v %+v", transport, transport, transport, cfg)
	s := take(t, c)
	echo(t, s, peer, noise(1000))
	printed += fmt.Sprintf("%v %+v %#v %v %+v %+v %+v", s.Layer, s.Layer, s.Layer, transport, transport, &s.Sealer, &s.Opener)
	if transport.secrets.complete() {
		t.Error("the transport has them still")
	}
	for _, k := range []*keys{s.Sealer.keys, s.Opener.keys} {
		if bytes.Contains(wire.all.Bytes(), k.secret) || bytes.Contains(wire.all.Bytes(), []byte(hex.EncodeToString(k.secret))) {
			t.Error("a secret is on the wire")
		}
		for _, form := range []string{"%x", "%v", "%#v"} {
			if text := fmt.Sprintf(form, k.secret); strings.Contains(printed, strings.Trim(text, "[]")) {
				t.Error("a secret is printed")
			}
		}
	}
	files, err := os.ReadDir(dir)
	testhost.Must(t, err)
	if len(files) > 0 {
		t.Errorf("files were written: %v", files)
	}
	imports(t, source)
}

// imports checks that the package has no way to files, logs or other processes.
func imports(t *testing.T, source string) {
	t.Helper()
	allowed := []string{"bytes", "crypto/", "encoding/", "errors", "fmt", "golang.org/x/crypto/", "hash", "io", "math", "net", "sync/atomic"}
	files, err := filepath.Glob(filepath.Join(source, "*.go"))
	testhost.Must(t, err)
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		testhost.Must(t, err)
		for _, spec := range f.Imports {
			if !permitted(strings.Trim(spec.Path.Value, `"`), allowed) {
				t.Errorf("%s imports %s", filepath.Base(file), spec.Path.Value)
			}
		}
	}
	if len(files) == 0 {
		t.Error("no source")
	}
}

func permitted(path string, allowed []string) bool {
	for _, a := range allowed {
		if path == a || strings.HasSuffix(a, "/") && strings.HasPrefix(path, a) {
			return true
		}
	}
	return false
}

// TestKeyLog: what crypto/tls writes, and nothing else.
func TestKeyLog(t *testing.T) {
	for name, c := range map[string]struct {
		lines    []string
		complete bool
		fails    bool
	}{
		"both":           {[]string{"CLIENT_TRAFFIC_SECRET_0 00 0102\n", "SERVER_TRAFFIC_SECRET_0 00 0304\n"}, true, false},
		"others ignored": {[]string{"CLIENT_HANDSHAKE_TRAFFIC_SECRET 00 01\n", "SERVER_HANDSHAKE_TRAFFIC_SECRET 00 01\n"}, false, false},
		"one":            {[]string{"SERVER_TRAFFIC_SECRET_0 00 0304\n"}, false, false},
		"twice":          {[]string{"SERVER_TRAFFIC_SECRET_0 00 0304\n", "SERVER_TRAFFIC_SECRET_0 00 0304\n"}, false, true},
		"no hex":         {[]string{"SERVER_TRAFFIC_SECRET_0 00 xy\n"}, false, true},
		"too short":      {[]string{"SERVER_TRAFFIC_SECRET_0 00\n"}, false, true},
	} {
		var s secrets
		var err error
		for _, line := range c.lines {
			_, e := s.Write([]byte(line))
			err = errors.Join(err, e)
		}
		if s.complete() != c.complete || (err != nil) != c.fails {
			t.Errorf("%s: complete %v, %v", name, s.complete(), err)
		}
	}
}

// source gives all that a reader asks for, and counts it.
type source struct {
	net.Conn
	data []byte
}

func (s *source) Read(b []byte) (int, error) {
	n := copy(b, s.data)
	s.data = s.data[n:]
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// FuzzTransport: whatever a reader asks for, no read goes beyond a record.
func FuzzTransport(f *testing.F) {
	f.Add([]byte{5, 0, 255}, uint16(3))
	f.Fuzz(func(t *testing.T, sizes []byte, step uint16) {
		var all []byte
		ends := map[int]bool{}
		for _, n := range sizes {
			all = append(append(all, 22, 3, 3, 0, n), make([]byte, n)...)
			ends[len(all)] = true
		}
		c := &Transport{Conn: &source{data: all}}
		for at := 0; at < len(all); {
			n, err := c.Read(make([]byte, 1+int(step)))
			testhost.Must(t, err)
			for i := at + 1; i < at+n; i++ {
				if ends[i] {
					t.Fatalf("a read from %d to %d of %v", at, at+n, sizes)
				}
			}
			at += n
		}
	})
}
