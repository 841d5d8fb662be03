// SPDX-License-Identifier: Apache-2.0

package membership

import (
	"bytes"
	"errors"
	"fmt"

	"tacit/identity"
)

// Held are the services' certificates now.
func (c *Certificates) Held() map[identity.Name]*identity.SVID {
	out := map[identity.Name]*identity.SVID{}
	for _, name := range c.wants() {
		if s, err := c.ServiceSVID(name); err == nil {
			out[name] = s
		}
	}
	return out
}

// Inherit begins with the certificate of a service that an earlier daemon had, as PEM:
// no authority is asked for another before it is due.
func (c *Certificates) Inherit(name identity.Name, chain, key []byte) error {
	k, err := identity.ParseKey(key)
	if err != nil {
		return err
	}
	certs, err := identity.DecodeChain(chain)
	if err != nil {
		return err
	}
	s := &identity.SVID{ID: identity.ServiceID(c.Bundle().TrustDomain(), name), Chain: certs, Key: k}
	if !bytes.Equal(certs[0].RawSubjectPublicKeyInfo, k.Public()) {
		return fmt.Errorf("certificate of %s: %w", name, identity.ErrOtherKey)
	}
	if len(certs[0].URIs) != 1 || certs[0].URIs[0].String() != s.ID.String() {
		return errors.New("certificate of another service than " + string(name))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.services[name] = s
	return nil
}
