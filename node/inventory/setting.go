// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Names of settings; state on disk depends on them.
const (
	// settingFiles is what the service files said last when they were good: a
	// file that is bad when the daemon starts must not open its service's port.
	settingFiles = "service-files"
	// settingHeld says which definitions wait for a yes.
	settingHeld = "held"
	// settingExempt has the connections that no enrolment cuts.
	settingExempt = "spared"
	// settingPlaces has the workloads that were last seen in another network namespace.
	settingPlaces = "places"
)

// setting is a value that survives a restart.
type setting struct {
	store Store
	name  string
	text  []byte // as it is on disk
	dirty bool   // the value may differ from text
}

// load reads the value, if there is one.
func (s *setting) load(into any) error {
	text, err := s.store.Get(s.name)
	if err != nil || len(text) == 0 {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("state: setting %s: %w", s.name, err)
	}
	s.text = text
	return nil
}

// save writes the value where it differs from what is on disk.
func (s *setting) save(value any) error {
	if !s.dirty {
		return nil
	}
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	if !bytes.Equal(text, s.text) {
		if err := s.store.Set(s.name, text); err != nil {
			return err
		}
	}
	s.text, s.dirty = text, false
	return nil
}
