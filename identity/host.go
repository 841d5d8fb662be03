// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"fmt"
	"strings"
)

// maxHost is how long a host's name may be: the kernel's filter reads no more.
const maxHost = 200

// ParseHost folds the name of a host outside of the mesh to lower case, without its
// final dot, and checks it: at least two labels of letters, digits, hyphens and
// underscores, and no address.
func ParseHost(s string) (string, error) {
	host := strings.TrimSuffix(strings.Map(foldASCII, s), ".")
	labels := strings.Split(host, ".")
	if len(host) > maxHost || len(labels) < 2 {
		return "", fmt.Errorf("host %.80q: must be a name with a dot, of at most %d bytes, such as db.example.com", s, maxHost)
	}
	for _, label := range labels {
		if !isHostLabel(label) {
			return "", fmt.Errorf("host %.80q: %q is not 1 to 63 letters, digits, hyphens and underscores without a hyphen at an end", s, label)
		}
	}
	if !strings.ContainsFunc(labels[len(labels)-1], func(c rune) bool { return c < '0' || c > '9' }) {
		return "", fmt.Errorf("host %.80q: is an address, or may be taken for one", s)
	}
	return host, nil
}

func isHostLabel(label string) bool {
	other := func(c rune) bool { return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' }
	return len(label) > 0 && len(label) <= 63 && !strings.ContainsFunc(label, other) &&
		label[0] != '-' && label[len(label)-1] != '-'
}
