// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"strings"
	"testing"
	"testing/fstest"
)

func TestSysctlProblems(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  []string // one fragment a line
	}{
		{"none", map[string]string{"ipv4/conf/all/src_valid_mark": "0", "ipv4/conf/all/rp_filter": "0"}, nil},
		{"marks", map[string]string{"ipv4/conf/all/src_valid_mark": "1"}, []string{"net.ipv4.conf.all.src_valid_mark=0"}},
		{"strict on one", map[string]string{"ipv4/conf/all/rp_filter": "0", "ipv4/conf/eth0/rp_filter": "1"}, []string{"rp_filter is 1 (strict) on eth0"}},
		{"all is loose, which wins", map[string]string{"ipv4/conf/all/rp_filter": "2", "ipv4/conf/eth0/rp_filter": "1"}, nil},
		{"no ipv6 on lo", map[string]string{"ipv6/conf/lo/disable_ipv6": "1"}, []string{"disable_ipv6 is 1 on lo"}},
		{"no ipv6 elsewhere", map[string]string{"ipv6/conf/eth0/disable_ipv6": "1"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			net := fstest.MapFS{}
			for name, content := range tt.files {
				net[name] = &fstest.MapFile{Data: []byte(content + "\n")}
			}
			got := sysctlProblems(net)
			if len(got) != len(tt.want) {
				t.Fatalf("got %q, want %q", got, tt.want)
			}
			for i := range got {
				if !strings.Contains(got[i], tt.want[i]) {
					t.Errorf("got %q, want %q in it", got[i], tt.want[i])
				}
			}
		})
	}
}
