// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"slices"

	"tacit/redirect/sockdiag"
)

// sockets are the TCP sockets that listen, as of the last Look.
type sockets struct {
	list   []sockdiag.Listener
	byPort map[uint16][]sockdiag.Listener
	err    error // why there is no list
}

// look asks the kernel once for all of them. changed reports whether the
// answer differs for a port; nil when it differs for none.
func (s *sockets) look() (changed func(port uint16) bool) {
	list, err := sockdiag.Listeners()
	old := *s
	switch {
	case err == nil && old.err == nil && slices.Equal(list, old.list):
		return nil
	case err != nil && old.err != nil && err.Error() == old.err.Error():
		return nil
	}
	*s = sockets{list, make(map[uint16][]sockdiag.Listener, len(list)), err}
	for _, l := range list {
		s.byPort[l.Addr.Port()] = append(s.byPort[l.Addr.Port()], l)
	}
	if err != nil || old.err != nil {
		return func(uint16) bool { return true }
	}
	return func(port uint16) bool { return !slices.Equal(s.byPort[port], old.byPort[port]) }
}
