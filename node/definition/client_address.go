// SPDX-License-Identifier: Apache-2.0

package definition

import (
	"fmt"
	"iter"
	"slices"
)

// ClientAddress says which peer address the program of a service sees.
type ClientAddress string

// Values of client_address. The default is stored as "".
const (
	ClientService       ClientAddress = ""               // the virtual address of the calling service
	ClientOwn           ClientAddress = "client"         // the calling program's own address, where it has one that can be used here
	ClientLoopback      ClientAddress = "loopback"       // 127.0.0.1 or ::1, for all callers
	ClientProxyProtocol ClientAddress = "proxy_protocol" // as by default, and a PROXY protocol header that names the caller
)

// parse returns the stored form of what an operator wrote.
func (c ClientAddress) parse() (ClientAddress, error) {
	switch c {
	case "", "service":
		return ClientService, nil
	case ClientOwn, ClientLoopback, ClientProxyProtocol:
		return c, nil
	}
	return "", fmt.Errorf("%.40q: must be service, client, loopback or proxy_protocol", c)
}

func (d *draft) clientAddress(f field) {
	var err error
	if text := d.r.string(f, "service.client_address"); f.kind == kindText {
		d.ClientAddress, err = ClientAddress(text).parse()
		d.r.check(f, "service.client_address", err)
	}
}

// Answers are the ports of programs that see their callers' own addresses, sorted.
func Answers(list iter.Seq[Definition]) []uint16 {
	var out []uint16
	for d := range list {
		if d.ClientAddress == ClientOwn && d.LocalPort() != 0 {
			out = append(out, d.LocalPort())
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
