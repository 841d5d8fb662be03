// SPDX-License-Identifier: Apache-2.0

package lane

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"

	"tacit/identity"
	"tacit/policy"
)

func TestOpening(t *testing.T) {
	for _, o := range []Opening{
		{Source: "web", Destination: "db"},
		{Source: "web", Destination: "db", Port: 5432, Instance: "db-1", prove: true, Client: netip.MustParseAddrPort("10.0.0.7:40000")},
		{Source: "a", Destination: "b", Client: netip.MustParseAddrPort("[fd00::1]:1"), Instance: strings.Repeat("i", 255)},
	} {
		if got, err := decodeOpening(o.encode()); err != nil || got != o {
			t.Errorf("%+v came back as %+v, %v", o, got, err)
		}
	}
	for _, o := range []Opening{{}, {Source: "web"}, {Source: "Web", Destination: "db"}, {Source: "web", Destination: "db", Instance: "a\nb"}} {
		if got, err := decodeOpening(o.encode()); err == nil {
			t.Errorf("%+v was taken as %+v", o, got)
		}
	}
}

func TestPeerReason(t *testing.T) {
	for _, r := range policy.Reasons() {
		if len(r) > maxReason || peerReason([]byte(r)) != r {
			t.Errorf("reason %q doesn't go over a lane", r)
		}
	}
	if got := peerReason([]byte("made up")); got != policy.ReasonProtocol {
		t.Errorf("a made-up reason became %q", got)
	}
}

// FuzzFrame: no frame makes the parsers panic, and what they accept encodes to the
// same bytes.
func FuzzFrame(f *testing.F) {
	proof, err := encodeProof(identity.RoleClient, identity.Proof{Chain: [][]byte{{1, 2}, {3}}, Signature: []byte{4}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(appendFrame(nil, kindOpen, 1, Opening{Source: "web", Destination: "db", Instance: "x"}.encode()))
	f.Add(appendFrame(nil, kindProve, 0, proof))
	f.Add(appendFrame(nil, kindReset, 7, []byte(policy.ReasonGrant)))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) < headerSize {
			return
		}
		h, err := parseHeader([headerSize]byte(data))
		if err != nil {
			return
		}
		payload := data[headerSize:]
		if h.kind == kindOpen {
			if o, err := decodeOpening(payload); err == nil {
				again, err := decodeOpening(o.encode())
				if err != nil || again != o {
					t.Fatalf("%+v came back as %+v, %v", o, again, err)
				}
			}
		}
		if role, p, err := decodeProof(payload); err == nil && len(payload) <= payloadSize {
			if again, err := encodeProof(role, p); err != nil || !bytes.Equal(again, payload) {
				t.Fatalf("%x came back as %x, %v", payload, again, err)
			}
		}
		peerReason(payload)
	})
}
