// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/spf13/pflag"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// applyFile sets every flag that the config file names and the command line
// doesn't, and returns the positions of the lists in its exclude block. Errors
// name file, line and key.
func applyFile(path string, f *pflag.FlagSet) (excluded map[string]string, err error) {
	p := hclparse.NewParser()
	parse := p.ParseHCLFile
	if strings.HasSuffix(path, ".json") {
		parse = p.ParseJSONFile
	}
	file, diags := parse(path)
	if diags.HasErrors() {
		return nil, fmt.Errorf("config: %s", firstError(diags))
	}
	blocks, rest, diags := file.Body.PartialContent(&hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{{Type: "exclude"}}})
	if diags.HasErrors() {
		return nil, fmt.Errorf("config: %s", firstError(diags))
	}
	attrs, diags := withoutExclude(rest).JustAttributes()
	if diags.HasErrors() {
		return nil, fmt.Errorf("config: %s", firstError(diags))
	}
	if excluded, err = applyExclude(path, blocks.Blocks, f); err != nil {
		return nil, err
	}
	lines := map[string]int{} // of each flag
	for _, attr := range inOrder(attrs) {
		name, line := flagName(attr.Name), attr.Range.Start.Line
		err := applyKey(f, name, attr.Expr)
		if before := lines[name]; before > 0 && err == nil {
			err = fmt.Errorf("set twice, first in line %d", before)
		}
		if err != nil {
			return nil, fmt.Errorf("config: %s:%d: %s: %w", path, line, attr.Name, err)
		}
		lines[name] = line
	}
	return excluded, nil
}

// withoutExclude removes the exclude block, which has been read: an HCL body still
// reports it as unexpected, a JSON body doesn't.
func withoutExclude(rest hcl.Body) hcl.Body {
	body, ok := rest.(*hclsyntax.Body)
	if !ok {
		return rest
	}
	others := *body
	others.Blocks = slices.DeleteFunc(slices.Clone(body.Blocks), func(b *hclsyntax.Block) bool { return b.Type == "exclude" })
	return &others
}

// inOrder returns the attributes in the file's order, so that the first mistake is
// the one reported.
func inOrder(attrs hcl.Attributes) []*hcl.Attribute {
	return slices.SortedFunc(maps.Values(attrs), func(a, b *hcl.Attribute) int {
		return cmp.Compare(a.Range.Start.Byte, b.Range.Start.Byte)
	})
}

func flagName(key string) string { return strings.ReplaceAll(key, "_", "-") }

// isSetting reports whether a config file may hold a flag. Flags for the command
// line alone are config, help, version and those of a subcommand.
func isSetting(name string) bool {
	var settings pflag.FlagSet
	new(options).bind(&settings)
	return name != "config" && settings.Lookup(name) != nil
}

func applyKey(f *pflag.FlagSet, name string, expr hcl.Expression) error {
	if inExclude(name) {
		return errors.New("is a block: write exclude { ports = [22] }; its keys are ports, cidrs, uids and cgroups")
	}
	flag := f.Lookup(name)
	if flag == nil || !isSetting(name) {
		return errors.New("no such setting; tacitd --help lists them")
	}
	return setFlag(flag, expr)
}

// setFlag gives a flag the value of an expression, unless it is on the command line.
func setFlag(flag *pflag.Flag, expr hcl.Expression) error {
	value, diags := expr.Value(nil)
	if diags.HasErrors() {
		return errors.New(diags[0].Summary)
	}
	if flag.Changed {
		return nil
	}
	if list, ok := flag.Value.(pflag.SliceValue); ok && value.CanIterateElements() {
		parts, err := asStrings(value)
		if err != nil {
			return err
		}
		return list.Replace(parts)
	}
	text, err := asString(value)
	if err != nil {
		return err
	}
	if err := flag.Value.Set(text); err != nil {
		return fmt.Errorf("%q: %w", text, err)
	}
	return nil
}

func asStrings(list cty.Value) ([]string, error) {
	wrong := errors.New("want a string, or a list of strings")
	if list.Type().IsObjectType() {
		return nil, wrong
	}
	var parts []string
	for it := list.ElementIterator(); it.Next(); {
		_, element := it.Element()
		text, err := asString(element)
		if err != nil {
			return nil, wrong
		}
		parts = append(parts, text)
	}
	return parts, nil
}

// asString formats a value as its flag takes it.
func asString(v cty.Value) (string, error) {
	s, err := convert.Convert(v, cty.String)
	if err != nil || s.IsNull() {
		return "", errors.New("want one string, number, true or false")
	}
	return s.AsString(), nil
}

func firstError(diags hcl.Diagnostics) string {
	d := diags[0]
	text := strings.Join(strings.Fields(d.Summary+"; "+d.Detail), " ") // one line
	if d.Subject == nil {
		return text
	}
	return fmt.Sprintf("%s:%d: %s", d.Subject.Filename, d.Subject.Start.Line, text)
}
