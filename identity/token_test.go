// SPDX-License-Identifier: Apache-2.0

package identity_test

import (
	"bytes"
	"compress/flate"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"tacit/identity"
)

var noon = time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)

// draft is a token before it is signed; its life ends at noon.
func draft() identity.Token {
	return identity.Token{
		Node: "web1", TrustDomain: "mesh.test", Authority: "alpha", Addresses: []string{"10.0.0.1:7443"}, Root: identity.KeyID{1},
		Grants: []json.RawMessage{json.RawMessage(`{"kind":"grant","key":"web1/web","body":{"node":"web1","n":1.0}}`)}, Expires: noon,
	}
}

func TestToken(t *testing.T) {
	operator, in := newKey(t), draft()
	text, err := identity.NewToken(in, operator)
	must(t, err)
	got, err := identity.ParseToken(" " + text[:20] + "\r\n" + text[20:] + "\n") // as a terminal or a mail wraps it
	must(t, err)
	if got.Node != in.Node || got.Authority != in.Authority || got.Root != in.Root || !got.Expires.Equal(noon) || len(got.ID) != 32 ||
		string(got.Grants[0]) != string(in.Grants[0]) {
		t.Errorf("%+v", *got)
	}
	isOperator := func(k identity.KeyID) bool { return k == operator.ID() }
	must(t, got.Verify("web1", isOperator, noon.Add(-time.Second)))
	second, err := identity.NewToken(in, operator)
	must(t, err)
	if other, err := identity.ParseToken(second); err != nil || other.ID == got.ID {
		t.Errorf("two tokens with one ID: %v", err)
	}
	for _, shown := range []string{fmt.Sprint(got), fmt.Sprintf("%+v", *got), got.String()} {
		if strings.Contains(shown, got.ID) || !strings.Contains(shown, "web1") {
			t.Errorf("printed as %q", shown)
		}
	}
}

// Each fault has its own error, which says what to do.
func TestTokenRefused(t *testing.T) {
	operator, stranger := newKey(t), newKey(t)
	isOperator := func(k identity.KeyID) bool { return k == operator.ID() }
	text, err := identity.NewToken(draft(), operator)
	must(t, err)
	other, err := identity.NewToken(draft(), stranger)
	must(t, err)
	altered := func(change func(map[string]any)) string { return alter(t, text, change) }
	before := noon.Add(-time.Minute)
	for name, c := range map[string]struct {
		text string
		node identity.Name
		now  time.Time
		want error
		says string
	}{
		"not a token":      {"hello", "web1", before, identity.ErrTokenSyntax, "doesn't begin with tacit2."},
		"nothing":          {"", "web1", before, identity.ErrTokenSyntax, "copy the whole line"},
		"cut off":          {text[:len(text)/2], "web1", before, identity.ErrTokenSyntax, "cut off"},
		"cut off by one":   {text[:len(text)-1], "web1", before, identity.ErrTokenSyntax, "cut off"},
		"stray character":  {text + "!", "web1", before, identity.ErrTokenSyntax, "a character is wrong"},
		"too long":         {"tacit2." + strings.Repeat("A", 1<<20), "web1", before, identity.ErrTokenSyntax, "too many"},
		"expired":          {text, "web1", noon, identity.ErrTokenExpired, "tacit token create --node web1 (it ended at 2030-01-02T12:00:00Z)"},
		"other node":       {text, "web2", before, identity.ErrTokenNode, "tacit token create --node web2 (it is for web1)"},
		"no operator":      {other, "web1", before, identity.ErrTokenOperator, "on a node that `tacit nodes` marks as operator"},
		"other node in it": {altered(func(m map[string]any) { m["node"] = "web2" }), "web2", before, identity.ErrTokenSignature, "copy it again"},
		"longer life":      {altered(func(m map[string]any) { m["expires"] = "2040-01-02T12:00:00Z" }), "web1", noon, identity.ErrTokenSignature, "altered"},
		"wider grants": {altered(func(m map[string]any) { m["grants"] = []any{map[string]string{"key": "web1/db"}} }),
			"web1", before, identity.ErrTokenSignature, "altered"},
		"other address":   {altered(func(m map[string]any) { m["addresses"] = []string{"6.6.6.6:1"} }), "web1", before, identity.ErrTokenSignature, "altered"},
		"other root":      {altered(func(m map[string]any) { m["root"] = strings.Repeat("ab", 32) }), "web1", before, identity.ErrTokenSignature, "altered"},
		"other operator":  {altered(func(m map[string]any) { m["operator"] = stranger.Public() }), "web1", before, identity.ErrTokenSignature, "altered"},
		"no signature":    {altered(func(m map[string]any) { delete(m, "signature") }), "web1", before, identity.ErrTokenSignature, "altered"},
		"wrong signature": {altered(func(m map[string]any) { m["signature"] = []byte("x") }), "web1", before, identity.ErrTokenSignature, "altered"},
		"bad name":        {altered(func(m map[string]any) { m["node"] = "Web1/x" }), "web1", before, identity.ErrTokenSyntax, "bad name"},
		"bad domain":      {altered(func(m map[string]any) { m["trust_domain"] = "a/b" }), "web1", before, identity.ErrTokenSyntax, "trust domain"},
		"bad id":          {altered(func(m map[string]any) { m["id"] = "../../etc/passwd" }), "web1", before, identity.ErrTokenSyntax, "bad id"},
		"no address":      {altered(func(m map[string]any) { delete(m, "addresses") }), "web1", before, identity.ErrTokenSyntax, "missing"},
	} {
		token, err := identity.ParseToken(c.text)
		if err == nil {
			err = token.Verify(c.node, isOperator, c.now)
		}
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v; want it to say %q", name, err, c.says)
		}
	}
}

// alter changes a token's fields; the signature stays.
func alter(t *testing.T, text string, change func(map[string]any)) string {
	t.Helper()
	token, err := identity.ParseToken(text)
	must(t, err)
	raw, err := json.Marshal(token)
	must(t, err)
	var m map[string]any
	must(t, json.Unmarshal(raw, &m))
	change(m)
	raw, err = json.Marshal(m)
	must(t, err)
	return encode(t, raw)
}

// encode is a token's JSON as text, without a dictionary's help.
func encode(t testing.TB, raw []byte) string {
	t.Helper()
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, flate.DefaultCompression)
	must(t, err)
	_, err = w.Write(raw)
	must(t, err)
	must(t, w.Close())
	return "tacit2." + base64.RawURLEncoding.EncodeToString(out.Bytes())
}

func TestNewTokenRefuses(t *testing.T) {
	for name, change := range map[string]func(*identity.Token){
		"node": func(k *identity.Token) { k.Node = "" }, "domain": func(k *identity.Token) { k.TrustDomain = "" },
		"authority": func(k *identity.Token) { k.Authority = "A" }, "addresses": func(k *identity.Token) { k.Addresses = nil },
		"root": func(k *identity.Token) { k.Root = identity.KeyID{} }, "life": func(k *identity.Token) { k.Expires = time.Time{} },
		"grants": func(k *identity.Token) { k.Grants = []json.RawMessage{json.RawMessage("{")} },
	} {
		token := draft()
		change(&token)
		if _, err := identity.NewToken(token, newKey(t)); err == nil {
			t.Errorf("bad %s: signed", name)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	operator := newKey(f)
	text, err := identity.NewToken(draft(), operator)
	must(f, err)
	for _, s := range []string{"", "tacit2.", text, text[:40], encode(f, []byte(`{"grants":[[[]]]}`))} {
		f.Add(s)
	}
	isOperator := func(k identity.KeyID) bool { return k == operator.ID() }
	f.Fuzz(func(t *testing.T, s string) {
		token, err := identity.ParseToken(s)
		if err != nil {
			return
		}
		signed, err := identity.ParseToken(text)
		must(t, err)
		if token.Verify("web1", isOperator, noon.Add(-time.Hour)) == nil && token.ID != signed.ID {
			t.Fatalf("a token nobody signed: %q", s)
		}
	})
}
