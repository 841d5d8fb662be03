// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
)

// TestInterfaces: an interface that leads to one namespace alone is found, and is
// the ingress of its connections; a port of a bridge is refused.
func TestInterfaces(t *testing.T) {
	enter(t)
	there := newElsewhere(t)
	there.join(t)
	path := fmt.Sprintf("/proc/self/fd/%d", there.file.Fd())
	links, err := netlink.LinkList()
	must(t, err)
	i := slices.IndexFunc(links, func(l netlink.Link) bool { return l.Type() == "veth" })
	veth := links[i].Attrs()
	list, err := InterfacesTo(path)
	if err != nil || !slices.Equal(list, []uint32{uint32(veth.Index)}) {
		t.Errorf("to the namespace: %v, %v; want %d", list, err, veth.Index)
	}
	if index, err := Interface(veth.Name); err != nil || index != uint32(veth.Index) {
		t.Errorf("%s: %d, %v", veth.Name, index, err)
	}
	shell(t, "ip link add br9 type bridge && ip link set "+veth.Name+" master br9")
	if list, err := InterfacesTo(path); err != nil || len(list) > 0 {
		t.Errorf("by a bridge: %v, %v", list, err)
	}
	for _, name := range []string{veth.Name, "br9"} {
		if _, err := Interface(name); !errors.Is(err, ErrShared) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := InterfacesTo("/nowhere"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no such namespace: %v", err)
	}
	if _, err := Interface("none"); err == nil {
		t.Error("an interface that isn't there")
	}
}
