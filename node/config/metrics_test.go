// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"strings"
	"testing"
)

// TestMetricsAt: metrics are off, on the CLI's socket or on loopback, and nowhere else.
func TestMetricsAt(t *testing.T) {
	for text, want := range map[string]string{
		"":                        "invalid AddrPort <nil>",
		"unix":                    "invalid AddrPort <nil>",
		"127.0.0.1:9464":          "127.0.0.1:9464 <nil>",
		"127.9.9.9:1":             "127.9.9.9:1 <nil>",
		"[::1]:9464":              "[::1]:9464 <nil>",
		"[::ffff:127.0.0.1]:9464": "[::ffff:127.0.0.1]:9464 <nil>",
		"9464":                    `give a loopback address and port, such as 127.0.0.1:9464, or unix`,
		"localhost:9464":          `--metrics "localhost:9464": give a loopback address and port`,
		"127.0.0.1":               `give a loopback address and port`,
		"127.0.0.1:0":             `give a loopback address and port`,
		"Unix":                    `give a loopback address and port`,
		"0.0.0.0:9464":            `--metrics 0.0.0.0:9464: not a loopback address: `,
		"[::]:9464":               `not a loopback address`,
		"192.0.2.1:9464":          `not a loopback address`,
		"[::1%lo]:9464":           `not a loopback address`,
	} {
		at, err := Config{Metrics: text}.metricsAt()
		if got := fmt.Sprint(at, " ", err); !strings.Contains(got, want) || (err == nil) != strings.HasSuffix(want, "<nil>") {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}
