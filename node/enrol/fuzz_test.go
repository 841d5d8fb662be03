// SPDX-License-Identifier: Apache-2.0

package enrol_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"

	"tacit/identity"
	"tacit/node/enrol"
)

// refuser is an issuer that gives nothing.
type refuser struct{}

var errNever = errors.New("never")

func (refuser) Admit(context.Context, enrol.Ask) (*enrol.Admission, error) { return nil, errNever }
func (refuser) Issue(context.Context, identity.Name, []byte, enrol.Renewal) (*enrol.Issued, error) {
	return nil, errNever
}

// FuzzAdmission: whatever a client sends instead of a request, the server refuses it,
// ends with its context, and doesn't panic.
func FuzzAdmission(f *testing.F) {
	f.Add([]byte(`{"token":"x","csr":"AAAA"}`))
	f.Add([]byte(`{"token":`))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, sent []byte) {
		client, server := net.Pipe()
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- enrol.ServeAdmission(ctx, server, refuser{}) }()
		go func() {
			_, _ = client.Write(sent)
			cancel()
		}()
		_, _ = io.Copy(io.Discard, client)
		if err := <-served; err == nil {
			t.Error("a request that nobody grants was served")
		}
		_ = client.Close()
	})
}
