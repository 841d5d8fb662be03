// SPDX-License-Identifier: Apache-2.0

package definition

import (
	"fmt"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// hclReader reads HCL as Consul does, which is HCL's first version: ends of
// lines mean nothing, so that `connect { sidecar_service {} }` is one line,
// keys may be quoted, and = before a block is optional. Only the scanner is
// HCL 2's: the parser of HCL 2 has another grammar, and recurses without limit,
// so that 70 KB of "[" would overflow the stack. There are no expressions.
type hclReader struct {
	text   []byte
	tokens hclsyntax.Tokens
	labels bool // blocks may have a label, as in HCL's first version
}

func parseHCL(text []byte) (value, *Problem) { return readHCL(text, false) }

func parseLabelled(text []byte) (value, *Problem) { return readHCL(text, true) }

func readHCL(text []byte, labels bool) (value, *Problem) {
	tokens, _ := hclsyntax.LexConfig(text, "", hcl.InitialPos) // invalid text becomes tokens that the grammar refuses
	tokens = slices.DeleteFunc(tokens, func(t hclsyntax.Token) bool {
		return t.Type == hclsyntax.TokenNewline || t.Type == hclsyntax.TokenComment
	})
	r := &hclReader{text, tokens, labels}
	v := value{at: place{1, 1}, kind: kindObject}
	p := r.fields(&v, hclsyntax.TokenEOF, 0)
	return v, p
}

// peek returns the next token; the last one is always the end of the file.
func (r *hclReader) peek() hclsyntax.Token { return r.tokens[0] }

func (r *hclReader) take() hclsyntax.Token {
	t := r.tokens[0]
	if len(r.tokens) > 1 {
		r.tokens = r.tokens[1:]
	}
	return t
}

// took consumes the next token if it is one of types.
func (r *hclReader) took(types ...hclsyntax.TokenType) bool {
	if !slices.Contains(types, r.peek().Type) {
		return false
	}
	r.take()
	return true
}

func hclPlace(t hclsyntax.Token) place { return place{t.Range.Start.Line, t.Range.Start.Column} }

func unexpected(t hclsyntax.Token, want string) *Problem {
	at := hclPlace(t)
	what := fmt.Sprintf("unexpected %.20q", t.Bytes)
	if t.Type == hclsyntax.TokenEOF {
		what = "unexpected end of file"
	}
	return &Problem{Line: at.line, Column: at.column, Message: "not HCL: " + what + ", want " + want}
}

// fields reads keys and values up to end. Repeated blocks become one field
// with a list.
func (r *hclReader) fields(into *value, end hclsyntax.TokenType, depth int) *Problem {
	for !r.took(end) {
		if r.took(hclsyntax.TokenComma) {
			continue
		}
		f := field{at: hclPlace(r.peek())}
		var p *Problem
		if f.key, p = r.key(end); p != nil {
			return p
		}
		assigned := r.took(hclsyntax.TokenEqual, hclsyntax.TokenColon)
		switch t := r.peek(); {
		case assigned || t.Type == hclsyntax.TokenOBrace:
			f.value, p = r.value(depth + 1)
		case r.labels && t.Type == hclsyntax.TokenOQuote:
			f.value, p = r.labelled(depth + 1)
		default:
			p = notAssigned(t, f.key)
		}
		if p != nil {
			return p
		}
		if assigned {
			into.fields = append(into.fields, f)
		} else {
			addBlock(into, f)
		}
	}
	return nil
}

// labelled reads `"label" {…}`: a block whose one field is the label.
func (r *hclReader) labelled(depth int) (value, *Problem) {
	f := field{at: hclPlace(r.peek())}
	var p *Problem
	if f.key, p = r.quoted(); p != nil {
		return value{}, p
	}
	if t := r.peek(); t.Type != hclsyntax.TokenOBrace {
		return value{}, unexpected(t, "{ after the label")
	}
	f.value, p = r.value(depth + 1)
	return value{at: f.at, kind: kindObject, fields: []field{f}}, p
}

func notAssigned(t hclsyntax.Token, key string) *Problem {
	if t.Type != hclsyntax.TokenOQuote {
		return unexpected(t, "= or { after "+key)
	}
	at := hclPlace(t)
	return &Problem{Line: at.line, Column: at.column, Message: key + " takes no label: write " + key + ` { name = "…" }`}
}

func addBlock(into *value, f field) {
	f.value.at = f.at
	i := slices.IndexFunc(into.fields, func(o field) bool { return o.key == f.key && o.block })
	if i >= 0 {
		into.fields[i].list = append(into.fields[i].list, f.value)
		return
	}
	f.block = true
	f.value = value{at: f.at, kind: kindList, list: []value{f.value}}
	into.fields = append(into.fields, f)
}

func (r *hclReader) key(end hclsyntax.TokenType) (string, *Problem) {
	switch t := r.peek(); t.Type {
	case hclsyntax.TokenIdent:
		r.take()
		return string(t.Bytes), nil
	case hclsyntax.TokenOQuote:
		return r.quoted()
	default:
		want := "a key"
		if end == hclsyntax.TokenCBrace {
			want = "a key or }"
		}
		return "", unexpected(t, want)
	}
}

func (r *hclReader) value(depth int) (value, *Problem) {
	t := r.peek()
	v := value{at: hclPlace(t)}
	if depth > maxDepth {
		return v, &Problem{Line: v.at.line, Column: v.at.column, Message: "nested too deep"}
	}
	var p *Problem
	switch t.Type {
	case hclsyntax.TokenOBrace:
		r.take()
		v.kind = kindObject
		p = r.fields(&v, hclsyntax.TokenCBrace, depth)
	case hclsyntax.TokenOBrack:
		r.take()
		v.kind = kindList
		p = r.list(&v, depth)
	case hclsyntax.TokenNumberLit:
		r.take()
		v.kind, v.text = kindNumber, string(t.Bytes)
	case hclsyntax.TokenOQuote, hclsyntax.TokenOHeredoc:
		v.kind = kindText
		v.text, p = r.quoted()
	case hclsyntax.TokenIdent:
		r.take()
		v.text = string(t.Bytes)
		v.kind, p = word(t)
	default:
		p = unexpected(t, "a value")
	}
	return v, p
}

func word(t hclsyntax.Token) (kind, *Problem) {
	switch string(t.Bytes) {
	case "true", "false":
		return kindBool, nil
	case "null":
		return kindNull, nil
	}
	return "", unexpected(t, "a value; put text in quotes")
}

func (r *hclReader) list(into *value, depth int) *Problem {
	for !r.took(hclsyntax.TokenCBrack) {
		v, p := r.value(depth + 1)
		if p != nil {
			return p
		}
		into.list = append(into.list, v)
		if t := r.peek(); !r.took(hclsyntax.TokenComma) && t.Type != hclsyntax.TokenCBrack {
			return unexpected(t, ", or ]")
		}
	}
	return nil
}

// quoted reads a quoted text or a heredoc without templates. HCL's own parser
// gets only this literal, to resolve its escapes.
func (r *hclReader) quoted() (string, *Problem) {
	open := r.take()
	for {
		switch t := r.take(); t.Type {
		case hclsyntax.TokenQuotedLit, hclsyntax.TokenStringLit:
		case hclsyntax.TokenCQuote, hclsyntax.TokenCHeredoc:
			literal := r.text[open.Range.Start.Byte:t.Range.End.Byte]
			return unquote(append(slices.Clone(literal), '\n'), open.Range.Start)
		default:
			return "", unexpected(t, "the closing quote; ${…} isn't supported")
		}
	}
}

func unquote(literal []byte, at hcl.Pos) (string, *Problem) {
	expr, diags := hclsyntax.ParseExpression(literal, "", at)
	if !diags.HasErrors() {
		v, more := expr.Value(nil)
		if diags = more; !diags.HasErrors() && v.Type() == cty.String && !v.IsNull() {
			return v.AsString(), nil
		}
	}
	p := &Problem{Line: at.Line, Column: at.Column, Message: "not HCL: text can't be read"}
	if len(diags) > 0 {
		p.Message = "not HCL: " + diags[0].Summary
	}
	return "", p
}
