// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"tacit/node/api"
)

// Name is the log's file name. Older parts end in .1 to .3, the oldest last.
const Name = "audit.log"

const (
	maxSize = 16 << 20 // bytes of one file
	keep    = 3        // older parts
)

// chain is the file: a JSON object in each line, whose field sum covers the line and
// the sum of the one before, so that a line that was changed or taken out shows.
type chain struct {
	dir  string
	f    *os.File
	size int64
	sum  string // of the last line
}

// line is an entry as it is stored.
type line struct {
	api.AuditEntry
	Sum string `json:"sum,omitempty"`
}

func (c *chain) path(part int) string {
	if part == 0 {
		return filepath.Join(c.dir, Name)
	}
	return filepath.Join(c.dir, fmt.Sprintf("%s.%d", Name, part))
}

// open reads all parts. damage is where a damaged part was moved, or "".
func (c *chain) open(dir string, now time.Time) (entries []api.AuditEntry, damage string, err error) {
	c.dir = dir
	for part := keep; part >= 0; part-- {
		found, size, err := c.read(c.path(part))
		entries = append(entries, found...)
		switch {
		case errors.Is(err, errDamaged):
			damage = fmt.Sprintf("%s.damaged-%d", c.path(part), now.Unix())
			c.sum = "" // what follows can't be compared
			if err := os.Rename(c.path(part), damage); err != nil {
				return nil, "", err
			}
		case err != nil:
			return nil, "", err
		case part == 0:
			c.size = size
		}
	}
	return entries, damage, c.reopen()
}

func (c *chain) reopen() error {
	f, err := os.OpenFile(c.path(0), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	if err := f.Truncate(c.size); err != nil { // a line that a crash cut off
		return errors.Join(err, f.Close())
	}
	c.f = f
	return nil
}

var errDamaged = errors.New("a line doesn't continue the one before")

// read returns the entries of one file up to the first damaged line, and the length of
// what is whole. Only the last line may be cut off.
func (c *chain) read(path string) (entries []api.AuditEntry, size int64, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	in := bufio.NewReader(f)
	for {
		text, err := in.ReadBytes('\n')
		if err == io.EOF {
			return entries, size, nil
		}
		if err != nil {
			return entries, size, err
		}
		e, sum, ok := c.check(text, len(entries) == 0)
		if !ok {
			return entries, size, errDamaged
		}
		c.sum, size = sum, size+int64(len(text))
		entries = append(entries, e)
	}
}

// check parses a line. The first line of a file that is the oldest one has nothing
// before it that could be compared.
func (c *chain) check(text []byte, first bool) (e api.AuditEntry, sum string, ok bool) {
	var l line
	if json.Unmarshal(text, &l) != nil {
		return e, "", false
	}
	if _, want, err := seal(l.AuditEntry, c.sum); err == nil && want == l.Sum {
		return l.AuditEntry, l.Sum, true
	}
	return l.AuditEntry, l.Sum, first && c.sum == ""
}

// seal returns the line for an entry that follows the line with the sum before.
func seal(e api.AuditEntry, before string) (text []byte, sum string, err error) {
	body, err := json.Marshal(line{AuditEntry: e})
	if err != nil {
		return nil, "", err
	}
	h := sha256.Sum256(append([]byte(before), body...))
	sum = hex.EncodeToString(h[:16])
	text, err = json.Marshal(line{e, sum})
	return append(text, '\n'), sum, err
}

// append writes entries and waits for the disk: all of them, or none.
func (c *chain) append(entries []api.AuditEntry) error {
	if c.size > maxSize {
		if err := c.rotate(); err != nil {
			return err
		}
	}
	var all bytes.Buffer
	sum := c.sum
	for _, e := range entries {
		text, next, err := seal(e, sum)
		if err != nil {
			return err
		}
		all.Write(text)
		sum = next
	}
	n, err := c.f.Write(all.Bytes())
	if err == nil {
		err = c.f.Sync()
	}
	if err != nil {
		return errors.Join(err, c.f.Truncate(c.size))
	}
	c.size, c.sum = c.size+int64(n), sum
	return nil
}

// rotate begins a new file, and deletes the oldest.
func (c *chain) rotate() error {
	for part := keep - 1; part >= 0; part-- {
		if err := os.Rename(c.path(part), c.path(part+1)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	old := c.f
	c.size = 0
	return errors.Join(c.reopen(), old.Close())
}

func (c *chain) close() error { return c.f.Close() }
