// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

var (
	exampleKey   = regexp.MustCompile(`(?m)^# ([a-z0-9_]+) +=`)
	exampleBlock = regexp.MustCompile(`(?ms)^# exclude \{\n.*?^# \}\n`)
	noDefault    = []string{"bootstrap", "join", "token_file", "node", "address", "cgroup"} // shown by an example
)

func packaged(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "packaging", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestExampleConfig: as it is, the example changes nothing; uncommented, every line
// parses, and each value that it calls a default is one.
func TestExampleConfig(t *testing.T) {
	text := packaged(t, "tacitd.hcl")
	want, err := parse()
	if err != nil {
		t.Fatal(err)
	}
	got, err := parse("--config", write(t, "tacitd.hcl", text))
	if err != nil {
		t.Fatal(err)
	}
	got.Log, want.Log = nil, nil
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the example as it is:\n%+v, want\n%+v", got, want)
	}

	block := strings.ReplaceAll(exampleBlock.FindString(text), "# ", "")
	got, err = parse("--config", write(t, "block.hcl", block))
	if e := got.Exclude; err != nil || len(e.Ports) == 0 || len(e.CIDRs) == 0 || len(e.UIDs) == 0 || len(e.Cgroups) == 0 || len(e.At) != 4 {
		t.Errorf("the exclude block: %+v, %v", e, err)
	}

	var all, defaults []string
	for line := range strings.Lines(text) {
		if m := exampleKey.FindStringSubmatch(line); m != nil {
			line = strings.TrimPrefix(line, "# ")
			all = append(all, line)
			if !slices.Contains(noDefault, m[1]) {
				defaults = append(defaults, line)
			}
		}
	}
	got, err = parse("--config", write(t, "all.hcl", strings.Join(all, "")))
	if err != nil || !got.Bootstrap || got.TokenFile == "" || len(got.Join) != 1 || got.Cgroup == "" {
		t.Errorf("every key: %+v, %v", got, err)
	}
	got, err = parse("--config", write(t, "defaults.hcl", strings.Join(defaults, "")))
	got.Log, got.Exclude.At = nil, want.Exclude.At
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("the defaults shown:\n%+v, %v, want\n%+v", got, err, want)
	}
}

// TestExampleConfigIsComplete: the example shows every setting once.
func TestExampleConfigIsComplete(t *testing.T) {
	shown := map[string]int{}
	for _, m := range exampleKey.FindAllStringSubmatch(packaged(t, "tacitd.hcl"), -1) {
		shown[flagName(m[1])]++
	}
	f := pflag.NewFlagSet("tacitd", pflag.ContinueOnError)
	new(options).bind(f)
	f.VisitAll(func(flag *pflag.Flag) {
		if flag.Name != "config" && !inExclude(flag.Name) && shown[flag.Name] != 1 {
			t.Errorf("%s is shown %d times", flag.Name, shown[flag.Name])
		}
		delete(shown, flag.Name)
	})
	for name := range shown {
		t.Errorf("%s is no setting", name)
	}
}

// TestUnitsStartTacitd: the units start tacitd with arguments that it accepts.
func TestUnitsStartTacitd(t *testing.T) {
	for unit, want := range map[string]string{
		"tacitd.service":       "/usr/local/bin/tacitd --config /etc/tacit/tacitd.hcl --take-over",
		"tacitd-guard.service": "/usr/local/bin/tacitd guard --config /etc/tacit/tacitd.hcl",
	} {
		text := packaged(t, unit)
		if unit == "tacitd.service" && !strings.Contains(text, "\nExecReload=/bin/kill -HUP $MAINPID\n") {
			t.Errorf("%s doesn't reload by SIGHUP", unit)
		}
		if !strings.Contains(text, "\nExecStart="+want+"\n") {
			t.Errorf("%s doesn't start %s", unit, want)
		}
		args := strings.Fields(want)[1:]
		if cmd, _, err := rootCommand(nil).Find(args); err != nil || (cmd.Name() == "guard") != (args[0] == "guard") {
			t.Errorf("%s: %v", unit, err)
		}
	}
}

// TestUnitStops: a stop ends the daemon, also one that doesn't end by itself in time; a
// restart leaves it to its successor.
func TestUnitStops(t *testing.T) {
	line := regexp.MustCompile(`(?m)^ExecStop=/bin/sh -c '(.*)'$`).FindStringSubmatch(packaged(t, "tacitd.service"))
	if line == nil {
		t.Fatal("no ExecStop")
	}
	script := strings.NewReplacer("%n", "tacitd.service", "timeout 30", "timeout 2").Replace(line[1])
	for name, tc := range map[string]struct {
		jobs, daemon string
		ends         bool
	}{
		"stop":                   {"5 tacitd.service stop running", "exec sleep 60", true},
		"stop of one that hangs": {"5 tacitd.service stop running", "trap '' TERM; sleep 60 & wait", true},
		"shutdown":               {"1 shutdown.target start waiting\n5 tacitd.service stop running", "exec sleep 60", true},
		"restart":                {"4 other.service start waiting\n5 tacitd.service restart running", "exec sleep 60", false},
		"restart of another":     {"5 tacitd.service stop running\n6 x-tacitd.service restart waiting", "exec sleep 60", true},
	} {
		t.Run(name, func(t *testing.T) {
			bin := t.TempDir()
			systemctl := "#!/bin/sh\n[ \"$*\" = 'list-jobs --no-legend' ] && printf '" + tc.jobs + "\\n'\n"
			if err := os.WriteFile(filepath.Join(bin, "systemctl"), []byte(systemctl), 0o700); err != nil {
				t.Fatal(err)
			}
			daemon := exec.Command("/bin/sh", "-c", tc.daemon)
			if err := daemon.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- daemon.Wait() }()
			stop := exec.Command("/bin/sh", "-c", script)
			stop.Env = []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "MAINPID=" + strconv.Itoa(daemon.Process.Pid)}
			if out, err := stop.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
			if !tc.ends {
				if len(ended) > 0 {
					t.Error("the daemon has ended")
				}
				_ = daemon.Process.Kill()
			}
			select {
			case <-ended:
			case <-time.After(10 * time.Second):
				t.Error("the daemon lives")
				_ = daemon.Process.Kill()
			}
		})
	}
}
