// SPDX-License-Identifier: Apache-2.0

package identity_test

import (
	"strings"
	"testing"

	"tacit/identity"
)

func TestParseHost(t *testing.T) {
	long := strings.Repeat("a", 60)
	for in, want := range map[string]string{
		"db.abc.RDS.example": "db.abc.rds.example", "a.b.": "a.b", "_x.a-1.example": "_x.a-1.example", "1.2.3.example": "1.2.3.example",
		"": "", "db": "", ".": "", "a..b": "", "-a.example": "", "a-.example": "", "a b.example": "", "*.example": "", "ä.example": "",
		"10.0.0.1": "", "010.1": "", "fd00::1": "", "a.example:80": "", strings.Repeat("b", 64) + ".example": "", "\u212A.example": "",
		strings.Join([]string{long, long, long, "example"}, "."): strings.Join([]string{long, long, long, "example"}, "."),
		strings.Join([]string{long, long, long, long}, "."):      "",
	} {
		if got, err := identity.ParseHost(in); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
}
