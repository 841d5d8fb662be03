// SPDX-License-Identifier: Apache-2.0

package endtoend

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// TestDamagedStateOfARunningMesh: a node starts with a truncated database and an
// empty certificate, refuses everything until a peer has told what was lost, and is
// whole again.
func TestDamagedStateOfARunningMesh(t *testing.T) {
	m := testhost.NewMesh(t, testhost.MeshOptions{Nodes: 2, Flags: []string{"--default-intention", "allow"}, Grants: []string{"db", "web", "app"}})
	host1, host2 := m.Nodes[0], m.Nodes[1]
	webServer(t, host2, "db", "127.0.0.1", 8000, "db")
	host2.Tacit(t, "service", "register", "db", "--port", "8000")
	host1.Tacit(t, "intention", "deny", "web", "db", "--wait")
	becomesReachable(t, host2, "app", "http://db:8000/")
	refused(t, host2, "web", "http://db:8000/")
	v4, _ := host2.Virtual(t, "db")
	for _, lost := range [][]string{{"state.db"}, {"state.db", "copies/state"}} {
		host2.Stop(t)
		host1.Stop(t)
		for _, name := range lost {
			path := filepath.Join(host2.State, name)
			st, err := os.Stat(path)
			testhost.Must(t, err)
			testhost.Must(t, os.Truncate(path, st.Size()/2))
		}
		testhost.Must(t, os.Truncate(filepath.Join(host2.State, "node.crt"), 0))
		d := host2.Daemon(t, "--default-intention", "allow")
		for _, service := range []string{"web", "app"} {
			for _, url := range []string{"http://" + v4.String() + ":8000/", "http://127.0.0.1:8000/"} {
				out, exit := host2.Run(t, testhost.WorkloadCgroup(service), "curl", "-sS", "--max-time", "5", url)
				if exit != 7 {
					t.Errorf("%v lost: %s reaches %s: exit %d, %s", lost, service, url, exit, out)
				}
			}
		}
		if out, exit := host2.TryTacit(t, "status"); exit != 1 || !strings.Contains(out, "records were lost") {
			t.Errorf("%v lost: status exits %d and says\n%s", lost, exit, out)
		}
		for _, says := range []string{"state.db was damaged", "is kept as state.db.bad-", "node.crt is damaged"} {
			if !strings.Contains(d.Output(), says) {
				t.Errorf("%v lost: the log doesn't say %q", lost, says)
			}
		}
		host1.Daemon(t, "--default-intention", "allow")
		testhost.Eventually(t, 30*time.Second, "host2 has caught up", func() error { return succeeded(curl(t, host2, "app", "http://db:8000/")) })
		refused(t, host2, "web", "http://db:8000/")
		testhost.Eventually(t, 20*time.Second, "host2 is healthy", func() error { return succeeded(host2.TryTacit(t, "status")) })
	}
}

// TestNoKeyByteLeaves: the daemon keeps the capabilities that it needs and no
// others, leaves no core file, and none of its keys is found in what it writes, says
// or shows.
func TestNoKeyByteLeaves(t *testing.T) {
	m := testhost.NewMesh(t, testhost.MeshOptions{Nodes: 2, Grants: []string{"db"}})
	host1, host2 := m.Nodes[0], m.Nodes[1]
	host1.Tacit(t, "service", "register", "web", "--cgroup", "/web", "--port", "8000")
	keys := canaries(t, host1, host2)
	if len(find(keys, readAll(t, host1.State, nil))) == 0 {
		t.Fatal("the keys aren't found in the state folder either")
	}
	for _, h := range m.Nodes {
		d := h.Current(t)
		seen := readAll(t, h.RunDir, nil)
		for _, noun := range [][]string{{"status"}, {"doctor"}, {"nodes"}, {"node", "show", "host1"}, {"services"}, {"service", "show", "web"},
			{"intention", "list"}, {"flows"}, {"resolve", "web"}, {"ca", "status"}} {
			out, _ := h.TryTacit(t, append(noun, "--json")...)
			seen["tacit "+strings.Join(noun, " ")] = []byte(out)
		}
		process := fmt.Sprintf("/proc/%d", d.PID())
		for _, name := range []string{"cmdline", "environ", "status", "limits", "comm", "stat", "maps", "mountinfo", "io", "sched"} {
			text, err := os.ReadFile(filepath.Join(process, name))
			testhost.Must(t, err)
			seen[name] = text
		}
		pins, err := os.ReadDir(h.BPF)
		testhost.Must(t, err)
		for _, pin := range pins {
			seen["map "+pin.Name()] = h.Contents(t, pin.Name())
		}
		checkProcess(t, d, string(seen["status"]), string(seen["limits"]))
		d.Signal(syscall.SIGQUIT) // its last words are a dump
		<-d.Ended()
		h.Kill(t)
		seen["log"] = []byte(d.Output())
		if !bytes.Contains(seen["log"], []byte("goroutine ")) {
			t.Error("no dump")
		}
		if where := find(keys, seen); len(where) > 0 {
			t.Errorf("%s: keys in %v", h.Name, where)
		}
	}
}

// neededCapabilities are those of docs/state.md, as /proc shows them.
const neededCapabilities = "000000c000283426"

func checkProcess(t *testing.T, d *testhost.Daemon, status, limits string) {
	t.Helper()
	if strings.Contains(d.Output(), "keeps all capabilities") {
		t.Log("built with cgo: capabilities stay")
		return
	}
	for _, set := range []string{"CapPrm", "CapEff", "CapBnd"} {
		if !strings.Contains(status, set+":\t"+neededCapabilities+"\n") {
			t.Errorf("not %s:\n%s", neededCapabilities, status)
		}
	}
	if !strings.Contains(strings.Join(strings.Fields(limits), " "), "Max core file size 0 0") {
		t.Errorf("core files: %s", limits)
	}
}

// canaries are the secrets of hosts in the forms in which they might be written.
func canaries(t *testing.T, hosts ...*testhost.Host) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	add := func(name string, secret []byte) {
		out[name+" raw"] = secret
		out[name+" hex"] = []byte(hex.EncodeToString(secret))
		out[name+" HEX"] = []byte(strings.ToUpper(hex.EncodeToString(secret)))
		for skip := range 3 { // base64 of a text that it is a part of
			out[fmt.Sprintf("%s base64 %d", name, skip)] = []byte(base64.RawStdEncoding.EncodeToString(secret[skip : len(secret)-2-(len(secret)-2-skip)%3]))
			out[fmt.Sprintf("%s base64url %d", name, skip)] = []byte(base64.RawURLEncoding.EncodeToString(secret[skip : len(secret)-2-(len(secret)-2-skip)%3]))
		}
		out[name+" numbers"] = bytes.Trim([]byte(fmt.Sprint(secret)), "[]")
	}
	for _, h := range hosts {
		for path, text := range readAll(t, h.State, func(path string) bool { return strings.HasSuffix(path, ".key") && !strings.Contains(path, "copies") }) {
			block, _ := pem.Decode(text)
			key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			testhost.Must(t, err)
			scalar, err := key.(*ecdsa.PrivateKey).Bytes()
			testhost.Must(t, err)
			add(path, scalar)
			out[path+" PEM"] = bytes.Split(text, []byte("\n"))[1]
		}
	}
	return out
}

// readAll reads the files below a folder that are wanted.
func readAll(t *testing.T, dir string, wanted func(path string) bool) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	testhost.Must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && (wanted == nil || wanted(path)) {
			out[path], err = os.ReadFile(path)
		}
		return err
	}))
	return out
}

// find says which secrets are where.
func find(keys, texts map[string][]byte) (where []string) {
	for _, name := range slices.Sorted(maps.Keys(keys)) {
		for place, text := range texts {
			if bytes.Contains(text, keys[name]) {
				where = append(where, name+" in "+place)
			}
		}
	}
	return where
}
