// SPDX-License-Identifier: Apache-2.0

package definition

import "fmt"

// ClientAddress says which peer address the program of a service sees.
type ClientAddress string

// Values of client_address. The default is stored as "".
const (
	ClientService       ClientAddress = ""               // the virtual address of the calling service
	ClientLoopback      ClientAddress = "loopback"       // 127.0.0.1 or ::1, for all callers
	ClientProxyProtocol ClientAddress = "proxy_protocol" // as by default, and a PROXY protocol header that names the caller
)

// parse returns the stored form of what an operator wrote.
func (c ClientAddress) parse() (ClientAddress, error) {
	switch c {
	case "", "service":
		return ClientService, nil
	case ClientLoopback, ClientProxyProtocol:
		return c, nil
	case "client":
		return "", fmt.Errorf("%q isn't supported: the answers to a caller's own address would leave this host; proxy_protocol tells the program that address", c)
	}
	return "", fmt.Errorf("%.40q: must be service, loopback or proxy_protocol", c)
}

func (d *draft) clientAddress(f field) {
	var err error
	if text := d.r.string(f, "service.client_address"); f.kind == kindText {
		d.ClientAddress, err = ClientAddress(text).parse()
		d.r.check(f, "service.client_address", err)
	}
}
