// SPDX-License-Identifier: Apache-2.0

package definition

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
)

// jsonReader reads token by token, to know the position of each value.
type jsonReader struct {
	text  []byte
	lines []int // offset of each line's first byte
	dec   *json.Decoder
}

func parseJSON(text []byte) (value, *Problem) {
	r := &jsonReader{text: text, lines: []int{0}, dec: json.NewDecoder(bytes.NewReader(text))}
	r.dec.UseNumber()
	for i, c := range text {
		if c == '\n' {
			r.lines = append(r.lines, i+1)
		}
	}
	v, p := r.value(0)
	if p != nil {
		return v, p
	}
	if at := r.next(); r.more() {
		return v, &Problem{Line: at.line, Column: at.column, Message: "more text after the end of the JSON value"}
	}
	return v, nil
}

func (r *jsonReader) more() bool {
	_, err := r.dec.Token()
	return !errors.Is(err, io.EOF)
}

// next is the position of the next token.
func (r *jsonReader) next() place {
	i := int(r.dec.InputOffset())
	for i < len(r.text) && bytes.IndexByte([]byte(" \t\r\n,:"), r.text[i]) >= 0 {
		i++
	}
	return r.place(i)
}

func (r *jsonReader) place(offset int) place {
	line, found := slices.BinarySearch(r.lines, offset)
	if found {
		line++
	}
	return place{line, offset - r.lines[line-1] + 1}
}

func (r *jsonReader) token() (json.Token, place, *Problem) {
	at := r.next()
	t, err := r.dec.Token()
	if err == nil {
		return t, at, nil
	}
	msg := "not JSON: " + err.Error()
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		msg = "not JSON: unexpected end of file"
	}
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		at = r.place(max(0, int(syntax.Offset)-1))
	}
	return nil, at, &Problem{Line: at.line, Column: at.column, Message: msg}
}

func (r *jsonReader) value(depth int) (value, *Problem) {
	t, at, p := r.token()
	if p != nil {
		return value{at: at}, p
	}
	v := value{at: at}
	switch t := t.(type) {
	case json.Delim:
		if depth >= maxDepth {
			return v, &Problem{Line: at.line, Column: at.column, Message: "nested too deep"}
		}
		if t == '{' {
			return r.object(v, depth)
		}
		return r.list(v, depth)
	case string:
		v.kind, v.text = kindText, t
	case json.Number:
		v.kind, v.text = kindNumber, t.String()
	case bool:
		v.kind, v.text = kindBool, "false"
		if t {
			v.text = "true"
		}
	default:
		v.kind = kindNull
	}
	return v, nil
}

func (r *jsonReader) object(v value, depth int) (value, *Problem) {
	v.kind = kindObject
	for r.dec.More() {
		key, at, p := r.token()
		if p != nil {
			return v, p
		}
		text, _ := key.(string) // the decoder lets nothing else stand here
		item, p := r.value(depth + 1)
		if p != nil {
			return v, p
		}
		v.fields = append(v.fields, field{key: text, at: at, value: item})
	}
	_, _, p := r.token()
	return v, p
}

func (r *jsonReader) list(v value, depth int) (value, *Problem) {
	v.kind = kindList
	for r.dec.More() {
		item, p := r.value(depth + 1)
		if p != nil {
			return v, p
		}
		v.list = append(v.list, item)
	}
	_, _, p := r.token()
	return v, p
}
