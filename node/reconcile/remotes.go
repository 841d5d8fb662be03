// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"bytes"
	"encoding/json"
	"fmt"

	"tacit/policy/kernel"
)

// Remotes keeps the addresses of instances elsewhere: until they are proven again after a
// start, and at a boot before the daemon runs, they stay judged.
type Remotes struct {
	Settings interface {
		Get(name string) ([]byte, error)
		Set(name string, value []byte) error
	}
}

const setRemotes = "remotes"

// Keep writes them where they have changed.
func (r Remotes) Keep(list []kernel.Remote) error {
	text, err := json.Marshal(list)
	if err != nil {
		return err
	}
	old, err := r.Settings.Get(setRemotes)
	if err != nil || bytes.Equal(old, text) {
		return err
	}
	return r.Settings.Set(setRemotes, text)
}

// Kept are the last ones.
func (r Remotes) Kept() (list []kernel.Remote, err error) {
	text, err := r.Settings.Get(setRemotes)
	if err != nil || len(text) == 0 {
		return nil, err
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, fmt.Errorf("state: %s: %w", setRemotes, err)
	}
	return list, nil
}
