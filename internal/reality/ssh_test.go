// SPDX-License-Identifier: Apache-2.0

package reality

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tacit/internal/testhost"
)

// startSSH runs sshd as a plain user, who can log in only as himself.
func startSSH(t *testing.T, f *fixture, s program) {
	dir := f.dir(t, s, nil)
	for _, key := range []string{"host", "user"} {
		testhost.Must(t, run(exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", key, "-f", filepath.Join(dir, key))))
	}
	public, err := os.ReadFile(filepath.Join(dir, "host.pub"))
	testhost.Must(t, err)
	testhost.WriteFile(t, filepath.Join(dir, "known"), s.service+" "+string(public))
	testhost.WriteFile(t, filepath.Join(dir, "config"), fmt.Sprintf("Port %d\nHostKey %s/host\nPidFile none\nStrictModes no\nUsePAM no\n"+
		"PasswordAuthentication no\nAuthorizedKeysFile %s/user.pub\n", s.port, dir, dir))
	own(t, s.user, dir)
	own(t, "root", filepath.Join(dir, "user")) // ssh(1) refuses a key of others
	f.serve(t, s, "/usr/sbin/sshd", "-D", "-e", "-f", filepath.Join(dir, "config"))
}

// startRsync runs the daemon with one module.
func startRsync(t *testing.T, f *fixture, s program) {
	dir := f.dir(t, s, nil)
	tree := filepath.Join(dir, "tree")
	for i := range 5 {
		sub := filepath.Join(tree, fmt.Sprint(i))
		testhost.Must(t, os.MkdirAll(sub, 0o755))
		for j := range 20 {
			testhost.WriteFile(t, filepath.Join(sub, fmt.Sprint(j)), strings.Repeat(fmt.Sprintf("%d %d\n", i, j), 1000))
		}
	}
	testhost.WriteFile(t, filepath.Join(tree, "big"), strings.Repeat("0123456789abcdef", 1<<17))
	testhost.WriteFile(t, filepath.Join(dir, "conf"), fmt.Sprintf("port = %d\nuse chroot = no\nlock file = %s/lock\n[tree]\npath = %s\n[in]\npath = %s/in\nread only = no\n",
		s.port, dir, tree, dir))
	testhost.Must(t, os.Mkdir(filepath.Join(dir, "in"), 0o755))
	own(t, s.user, dir)
	f.serve(t, s, "rsync", "--daemon", "--no-detach", "--config", filepath.Join(dir, "conf"))
}

// sshLine is ssh with the caller's key and the server's, as a command line.
func (f *fixture) sshLine() string {
	return f.line("ssh -F none -i $DIR/shell/user -o UserKnownHostsFile=$DIR/shell/known -o BatchMode=yes")
}

func (f *fixture) ssh(t *testing.T) {
	f.from(t, func(t *testing.T, h *testhost.Host) {
		says(t, h, "Linux", "sh", "-c", f.sshLine()+" postgres@shell uname")
		// Bytes both ways, end of file, and the exit status of the other side.
		out := says(t, h, "", "sh", "-c", "head -c 8000000 /dev/zero | "+f.sshLine()+" postgres@shell 'cat; exit 3' | wc -c; "+f.sshLine()+" postgres@shell 'exit 3' || echo exit $?")
		if strings.Join(strings.Fields(out), " ") != "8000000 exit 3" {
			t.Errorf("8,000,000 bytes there and back: %s", out)
		}
	})
}

func (f *fixture) rsync(t *testing.T) {
	f.from(t, func(t *testing.T, h *testhost.Host) {
		overSSH := "-e '" + f.sshLine() + "'"
		copies := filepath.Join(h.Dir, "copies")
		for _, c := range []struct{ what, how, from, to, compare string }{
			{"from the daemon", "", "rsync://files/tree/", copies + "/pulled/", copies + "/pulled"},
			{"to the daemon", "", copies + "/pulled/", "rsync://files/in/" + h.Name + "/", "$DIR/files/in/" + h.Name},
			{"from ssh", overSSH, "postgres@shell:$DIR/files/tree/", copies + "/ssh/", copies + "/ssh"},
			{"to ssh", overSSH, copies + "/pulled/", "postgres@shell:$DIR/files/" + h.Name + "/", "$DIR/files/" + h.Name},
		} {
			t.Run(c.what, func(t *testing.T) {
				says(t, h, "", "sh", "-c", f.line(fmt.Sprintf("rsync -r --mkpath %s %s %s", c.how, c.from, c.to)))
				testhost.Must(t, run(exec.Command("diff", "-r", filepath.Join(f.here.Dir, "files", "tree"), f.line(c.compare))))
			})
		}
	})
}
