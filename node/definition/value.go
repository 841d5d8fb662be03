// SPDX-License-Identifier: Apache-2.0

package definition

import "fmt"

// value is a value in a file, HCL or JSON, with its position.
type value struct {
	at     place
	kind   kind
	text   string // of text, number and boolean
	list   []value
	fields []field // in the order of the file; keys may repeat
}

// field is a key with its value. Its own position is the key's.
type field struct {
	key   string
	at    place
	block bool // HCL's `key {…}`, which may be repeated
	value
}

type kind string

const (
	kindNull   kind = "null"
	kindBool   kind = "true or false"
	kindNumber kind = "a number"
	kindText   kind = "text"
	kindList   kind = "a list"
	kindObject kind = "a block"
)

// place is a position in a file, both counted from 1; columns are bytes.
type place struct{ line, column int }

// Problem is one thing wrong with a file, or with the folder (Line 0).
type Problem struct {
	File         string
	Line, Column int
	Message      string
}

// Error returns "file:line:column: message".
func (p Problem) Error() string {
	if p.Line == 0 {
		return p.File + ": " + p.Message
	}
	return fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Column, p.Message)
}

// maxDepth limits nesting; a definition needs far less.
const maxDepth = 32
