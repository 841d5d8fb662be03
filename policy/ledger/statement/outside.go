// SPDX-License-Identifier: Apache-2.0

package statement

import (
	"errors"
	"fmt"
	"net/netip"

	"tacit/identity"
)

// maxOutside is the maximum length of Outside.Hosts and of Outside.Addresses.
const maxOutside = 32

// DownAddress: no address of the outside service is known.
const DownAddress = "address"

// Outside says that an instance is outside of the mesh, and where. Its node dials
// it; with Anywhere each node does, for its own callers.
type Outside struct {
	Hosts     []string `json:"hosts,omitempty"`     // its real names
	Addresses []string `json:"addresses,omitempty"` // IP:PORT; none: those of the hosts, with the instance's port
	Anywhere  bool     `json:"anywhere,omitempty"`
	Header    bool     `json:"header,omitempty"` // it is sent a PROXY protocol header first
}

func (o *Outside) check(port uint16) error {
	if o == nil {
		return nil
	}
	var errs []error
	for _, host := range o.Hosts {
		errs = append(errs, checkHost(host))
	}
	for _, addr := range o.Addresses {
		errs = append(errs, checkAddrPort(addr))
	}
	switch {
	case len(o.Hosts)+len(o.Addresses) == 0 || port == 0:
		errs = append(errs, errors.New("an outside instance needs a port, and a host or an address"))
	case len(o.Hosts) > maxOutside || len(o.Addresses) > maxOutside:
		errs = append(errs, fmt.Errorf("%d hosts and %d addresses: at most %d of each", len(o.Hosts), len(o.Addresses), maxOutside))
	}
	return errors.Join(errs...)
}

func checkHost(s string) error {
	if host, err := identity.ParseHost(s); err != nil || host != s {
		return errors.Join(err, fmt.Errorf("host %.80q: not in the form that is stored", s))
	}
	return nil
}

func checkAddrPort(s string) error {
	a, err := netip.ParseAddrPort(s)
	if err != nil || a.String() != s || a.Port() == 0 {
		return fmt.Errorf("address %.60q: use IP:PORT in canonical form", s)
	}
	return checkAddress(a.Addr().String())
}

// checkVouched checks Grant.Outside: hosts, addresses, and addresses with a port.
func checkVouched(list []string) error {
	if len(list) > 2*maxOutside {
		return fmt.Errorf("%d names and addresses: at most %d", len(list), 2*maxOutside)
	}
	for _, s := range list {
		if checkHost(s) != nil && checkAddress(s) != nil && checkAddrPort(s) != nil {
			return fmt.Errorf("%.80q is neither a host, an address nor IP:PORT in canonical form", s)
		}
	}
	return nil
}
