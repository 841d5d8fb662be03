// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"encoding/json"
	"fmt"

	"tacit/node/definition"
	"tacit/node/definition/folder"
)

// SourceCommand is the Source of a definition that was registered by command.
const SourceCommand = "command"

// definitions are those of the folder and those registered by command. A file's
// counts where both have the same id.
type definitions struct {
	folder *folder.Folder
	files  setting
	bad    []definition.Problem // in the service files
	told   told

	ignored map[string]bool // lines that were logged

	stale   bool // the sources have changed since list was made
	list    []definition.Definition
	version int   // grows when list is made again
	err     error // why list couldn't be made again
}

// load puts in force what the files said last.
func (d *definitions) load() error {
	good := map[string][]definition.Definition{}
	if err := d.files.load(&good); err != nil {
		return err
	}
	d.folder.Remember(good)
	return nil
}

// reload reads the service files that have changed.
func (d *definitions) reload() {
	_, d.bad = d.folder.Reload()
	d.stale, d.files.dirty = true, true
}

// keep writes what the service files say.
func (d *definitions) keep() error {
	if !d.files.dirty {
		return nil
	}
	return d.files.save(d.folder.Good())
}

// define makes the list again where a source has changed. What can't be read
// leaves the list as it was: it must not open a port.
func (i *Inventory) define() {
	d := &i.defined
	if !d.stale {
		return
	}
	all := d.folder.Definitions()
	ofFile := make(map[string]bool, len(all))
	for _, one := range all {
		ofFile[one.ID] = true
	}
	d.err = i.conf.Store.Services(func(id string, text []byte) error {
		var one definition.Definition
		if err := json.Unmarshal(text, &one); err != nil {
			return fmt.Errorf("registered service %s: %w", id, err)
		}
		if !ofFile[id] {
			all = append(all, one)
		}
		return nil
	})
	if d.err == nil {
		d.list, d.stale = i.held.holdBack(all), false
		d.version++
		i.logIgnored()
	}
}

// logIgnored names what the files in force say without a meaning here, each
// line once.
func (i *Inventory) logIgnored() {
	now := map[string]bool{}
	for _, one := range i.defined.list {
		for _, line := range one.Ignored {
			if now[line] = true; !i.defined.ignored[line] {
				i.conf.Log.Warn("a setting of a service file has no meaning here", "service", one.Name, "setting", line)
			}
		}
	}
	i.defined.ignored = now
}

// Register keeps a definition that was given by command. The next Look finds it.
func (i *Inventory) Register(d definition.Definition) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.defined.stale = true
	return i.conf.Store.PutService(d.ID, d)
}

// Deregister forgets a definition that was given by command, by its id.
func (i *Inventory) Deregister(id string) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.defined.stale = true
	return i.conf.Store.DeleteService(id)
}
