// SPDX-License-Identifier: Apache-2.0

package message

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"

	"tacit/identity"
	"tacit/policy"
	"tacit/tproxy/lane/frame"
)

func TestOpening(t *testing.T) {
	for _, o := range []Opening{
		{Source: "web", Destination: "db"},
		{Source: "web", Destination: "db", Port: 5432, Instance: "db-1", Unproven: true, Client: netip.MustParseAddrPort("10.0.0.7:40000")},
		{Source: "a", Destination: "b", Client: netip.MustParseAddrPort("[fd00::1]:1"), Instance: strings.Repeat("i", 255)},
	} {
		if got, err := DecodeOpening(o.Encode()); err != nil || got != o {
			t.Errorf("%+v came back as %+v, %v", o, got, err)
		}
	}
	for _, o := range []Opening{{}, {Source: "web"}, {Source: "Web", Destination: "db"}, {Source: "web", Destination: "db", Instance: "a\nb"}} {
		if got, err := DecodeOpening(o.Encode()); err == nil {
			t.Errorf("%+v was taken as %+v", o, got)
		}
	}
}

func TestReason(t *testing.T) {
	for _, r := range policy.Reasons() {
		if len(r) > frame.MaxReason || Reason([]byte(r)) != r {
			t.Errorf("reason %q doesn't go over a lane", r)
		}
	}
	if got := Reason([]byte("made up")); got != policy.ReasonProtocol {
		t.Errorf("a made-up reason became %q", got)
	}
}

// FuzzMessages: no payload makes the parsers panic, and what they accept encodes to the
// same bytes.
func FuzzMessages(f *testing.F) {
	proof, err := EncodeProof(identity.RoleClient, identity.Proof{Chain: [][]byte{{1, 2}, {3}}, Signature: []byte{4}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(Opening{Source: "web", Destination: "db", Instance: "x"}.Encode())
	f.Add(proof)
	f.Add([]byte(policy.ReasonGrant))
	f.Fuzz(func(t *testing.T, payload []byte) {
		if o, err := DecodeOpening(payload); err == nil {
			again, err := DecodeOpening(o.Encode())
			if err != nil || again != o {
				t.Fatalf("%+v came back as %+v, %v", o, again, err)
			}
		}
		if role, p, err := DecodeProof(payload); err == nil && len(payload) <= frame.MaxPayload {
			if again, err := EncodeProof(role, p); err != nil || !bytes.Equal(again, payload) {
				t.Fatalf("%x came back as %x, %v", payload, again, err)
			}
		}
		Reason(payload)
	})
}
