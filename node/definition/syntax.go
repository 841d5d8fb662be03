// SPDX-License-Identifier: Apache-2.0

package definition

import "path/filepath"

// Item is a value of a file in the syntax of service files, for readers of other
// files. A block and an object are the same; a repeated block is a list; a block
// with a label is one whose only field is the label.
type Item struct {
	Key          string // of a field
	Line, Column int
	Kind         Kind
	Text         string // of text, number and boolean
	Items        []Item // the elements of a list, or the fields of a block
}

// Kind is what an Item is; as text, it reads well in a message.
type Kind = kind

// The kinds that readers of other files tell apart.
const (
	KindNull   = kindNull
	KindText   = kindText
	KindNumber = kindNumber
	KindList   = kindList
	KindBlock  = kindObject
)

// Syntax reads a file's text: JSON if path ends in .json, else HCL. The error is a
// Problem.
func Syntax(path string, text []byte) (Item, error) {
	parse := parseLabelled
	if filepath.Ext(path) == ".json" {
		parse = parseJSON
	}
	v, p := parse(text)
	if p != nil {
		p.File = path
		return Item{}, *p
	}
	return item("", v.at, v), nil
}

func item(key string, at place, v value) Item {
	out := Item{Key: key, Line: at.line, Column: at.column, Kind: v.kind, Text: v.text}
	for _, e := range v.list {
		out.Items = append(out.Items, item("", e.at, e))
	}
	for _, f := range v.fields {
		out.Items = append(out.Items, item(f.key, f.at, f.value))
	}
	return out
}
