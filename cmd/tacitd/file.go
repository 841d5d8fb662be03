// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/spf13/pflag"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// applyFile sets every flag that the config file names and the command line
// doesn't. Errors name file, line and key.
func applyFile(path string, f *pflag.FlagSet) error {
	p := hclparse.NewParser()
	parse := p.ParseHCLFile
	if strings.HasSuffix(path, ".json") {
		parse = p.ParseJSONFile
	}
	file, diags := parse(path)
	if diags.HasErrors() {
		return fmt.Errorf("config: %s", firstError(diags))
	}
	attrs, diags := file.Body.JustAttributes()
	if diags.HasErrors() {
		return fmt.Errorf("config: %s", firstError(diags))
	}
	for name, attr := range attrs {
		if err := applyKey(f, name, attr); err != nil {
			return fmt.Errorf("config: %s:%d: %s: %w", path, attr.Range.Start.Line, name, err)
		}
	}
	return nil
}

func applyKey(f *pflag.FlagSet, name string, attr *hcl.Attribute) error {
	flag := f.Lookup(strings.ReplaceAll(name, "_", "-"))
	if flag == nil || flag.Name == "config" {
		return fmt.Errorf("no such setting; tacitd --help lists them")
	}
	if flag.Changed {
		return nil
	}
	value, diags := attr.Expr.Value(nil)
	if diags.HasErrors() {
		return fmt.Errorf("%s", diags[0].Summary)
	}
	text, err := asText(value)
	if err != nil {
		return err
	}
	if err := flag.Value.Set(text); err != nil {
		return fmt.Errorf("%q: %w", text, err)
	}
	return nil
}

// asText writes a value as its flag would be written; lists by commas.
func asText(v cty.Value) (string, error) {
	if v.Type().IsTupleType() || v.Type().IsListType() {
		var parts []string
		for it := v.ElementIterator(); it.Next(); {
			_, element := it.Element()
			text, err := asText(element)
			if err != nil {
				return "", err
			}
			parts = append(parts, text)
		}
		return strings.Join(parts, ","), nil
	}
	s, err := convert.Convert(v, cty.String)
	if err != nil || s.IsNull() {
		return "", fmt.Errorf("want a text, a number, true or false, or a list of these")
	}
	return s.AsString(), nil
}

func firstError(diags hcl.Diagnostics) string {
	d := diags[0]
	if d.Subject == nil {
		return d.Summary
	}
	return fmt.Sprintf("%s:%d: %s", d.Subject.Filename, d.Subject.Start.Line, d.Detail)
}
