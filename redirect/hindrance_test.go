// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"strings"
	"testing"
	"testing/fstest"
)

func TestHindrances(t *testing.T) {
	conf := func(settings ...string) fstest.MapFS { // DEV/NAME=VALUE
		out := fstest.MapFS{}
		for _, dev := range []string{"all", "default", "lo", "eth0", "veth1"} {
			for _, name := range []string{"src_valid_mark", "rp_filter"} {
				out["ipv4/conf/"+dev+"/"+name] = &fstest.MapFile{Data: []byte("0\n")}
			}
		}
		for _, s := range settings {
			name, value, _ := strings.Cut(s, "=")
			out["ipv4/conf/"+name] = &fstest.MapFile{Data: []byte(value + "\n")}
		}
		return out
	}
	back := func(dev string) string {
		if dev == "veth1" {
			return "what 10.0.0.9 sends goes astray"
		}
		return ""
	}
	for _, tt := range []struct {
		settings []string
		want     string // what each line begins with
	}{
		{nil, ""},
		{[]string{"all/src_valid_mark=1"}, "src_valid_mark is 1 on all"},
		{[]string{"lo/src_valid_mark=1", "default/src_valid_mark=1"}, ""},
		{[]string{"veth1/src_valid_mark=1"}, "src_valid_mark is 1 on veth1"},
		{[]string{"all/rp_filter=1"}, "rp_filter is 1 (strict) on veth1"},
		{[]string{"all/rp_filter=2", "veth1/rp_filter=1"}, ""},
		{[]string{"veth1/rp_filter=1"}, "rp_filter is 1 (strict) on veth1"},
		{[]string{"all/rp_filter=1", "veth1/rp_filter=2"}, ""},
		{[]string{"eth0/rp_filter=1"}, ""},
	} {
		got := strings.Join(hindrances(conf(tt.settings...), back), "\n")
		if !strings.HasPrefix(got, tt.want) || (tt.want == "") != (got == "") {
			t.Errorf("%v: %q, want %q", tt.settings, got, tt.want)
		}
	}
}

// TestWayBack: a neighbour whose packets a strict filter would drop.
func TestWayBack(t *testing.T) {
	enter(t)
	there := newElsewhere(t)
	there.join(t)
	shell(t, "ip link add d0 type veth peer name d1; ip link set d0 up; ip link set d1 up")
	shellIn(t, there, "ping -c1 -W2 10.9.0.1 || true")
	dev := strings.TrimSpace(shell(t, "ip -o -4 addr show to 10.9.0.1 | awk '{print $2}'"))
	dev, _, _ = strings.Cut(dev, "@")
	shell(t, "ip neigh replace 10.9.0.2 lladdr 02:00:00:00:00:09 dev "+dev)
	if got := wayBack(dev); got != "" {
		t.Errorf("%s: %s", dev, got)
	}
	shell(t, "ip route add 10.9.0.2/32 dev d0")
	if got := wayBack(dev); !strings.Contains(got, "10.9.0.2") {
		t.Errorf("%s: %q, want 10.9.0.2 in it", dev, got)
	}
}
