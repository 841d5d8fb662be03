// SPDX-License-Identifier: Apache-2.0

package record

import (
	"bytes"
	"encoding/hex"
	"errors"
)

// secrets are the first traffic secrets of both directions. As the KeyLogWriter
// of a configuration they get a line for each secret of the handshake (the format
// of NSS), and keep these two.
type secrets struct{ client, server []byte }

func (s *secrets) complete() bool { return s.client != nil && s.server != nil }

func (s *secrets) Write(line []byte) (int, error) {
	f := bytes.Fields(line) // label, random of the client, secret
	if len(f) != 3 {
		return 0, errors.New("a line of the key log that isn't label, random, secret")
	}
	var err error
	switch string(f[0]) {
	case "CLIENT_TRAFFIC_SECRET_0":
		s.client, err = keep(s.client, f[2])
	case "SERVER_TRAFFIC_SECRET_0":
		s.server, err = keep(s.server, f[2])
	}
	return len(line), err
}

// keep decodes a secret, of which there must be one.
func keep(have, text []byte) ([]byte, error) {
	if have != nil {
		return nil, errors.New("a second traffic secret of the same direction")
	}
	return hex.AppendDecode(nil, text)
}
