// SPDX-License-Identifier: Apache-2.0

package pulse

import "testing"

// TestSilent: a peer is given up when it hasn't answered for pongRounds rounds in which
// this node has looked and in which the PING had arrived, or nothing did.
func TestSilent(t *testing.T) {
	type round struct {
		unacked         int
		unread, silent  bool
		heard, sentMore bool
	}
	for name, rounds := range map[string][]round{
		"dead":                {{unacked: 1000}, {unacked: 1000}, {unacked: 1000, silent: true}},
		"stopped":             {{}, {}, {silent: true}},
		"answers":             {{}, {}, {heard: true}, {}, {}, {}},
		"not looked at":       {{unread: true}, {unread: true}, {unread: true}, {unread: true}, {}, {}, {silent: true}},
		"behind much else":    {{unacked: 900}, {unacked: 800}, {unacked: 600}, {unacked: 500}, {unacked: 100}, {}, {}, {silent: true}},
		"dies behind it":      {{unacked: 900}, {unacked: 800}, {unacked: 800}, {unacked: 800}, {unacked: 800, silent: true}},
		"is sent more, later": {{unacked: 900}, {unacked: 900, sentMore: true}, {unacked: 1000}, {unacked: 1000, silent: true}},
	} {
		var p Pulse
		p.Wrote(1000)
		p.Round(1000, false, false)
		if !p.Ask(0) || p.Ask(0) {
			t.Error("not one PING at a time")
		}
		for i, r := range rounds {
			if r.heard {
				p.Heard()
			}
			if _, silent := p.Round(r.unacked, false, r.unread); silent != r.silent {
				t.Errorf("%s, round %d: silent %v", name, i, silent)
			}
			if r.sentMore {
				p.Wrote(100)
			}
		}
	}
}

// TestStuck: a peer that takes nothing for jamRounds rounds while output waits is stuck;
// one that takes a little isn't.
func TestStuck(t *testing.T) {
	var slow, jammed Pulse
	slow.Wrote(1 << 20)
	jammed.Wrote(1 << 20)
	slow.Round(1<<20, true, false)
	jammed.Round(1<<20, true, false)
	for i := range 4 * jamRounds {
		if stuck, _ := slow.Round(1<<20-i-1, true, false); stuck {
			t.Fatalf("one that takes a byte each round is stuck after %d", i)
		}
		if stuck, _ := jammed.Round(1<<20, true, false); stuck != (i >= jamRounds-1) {
			t.Fatalf("one that takes nothing: %v after %d", stuck, i)
		}
	}
	if stuck, _ := jammed.Round(1<<20, false, false); stuck {
		t.Error("stuck although nothing waits")
	}
}
