// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestRarely: a map that is costly to read is read back every ten seconds, and a
// change in it is found then.
func TestRarely(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &counted{}
		e, found := rarely(m), 0
		for range 60 { // two minutes
			if same, _ := e.verify(); !same {
				found++
			}
			<-time.After(2 * time.Second)
		}
		if m.reads != 12 || found != 1 {
			t.Errorf("read %d times in two minutes, and %d changes found; want 12 and 1", m.reads, found)
		}
	})
}

// counted is a map that something else changes before the fourth read.
type counted struct {
	entry
	reads int
}

func (c *counted) verify() (bool, error) {
	c.reads++
	return c.reads != 4, nil
}
