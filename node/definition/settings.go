// SPDX-License-Identifier: Apache-2.0

package definition

import "slices"

// remember lists the settings below a value, in the order of the file. Checks
// are listed by themselves, with their results, and secrets not at all.
func (d *draft) remember(path string, v value) {
	for _, f := range v.fields {
		key := join(path, f.key)
		switch {
		case key == "check" || key == "checks" || f.kind == kindNull:
		case f.key == "token":
			d.setting(key, "(a secret)", f)
		default:
			d.rememberField(key, f)
		}
	}
}

func (d *draft) rememberField(key string, f field) {
	switch f.kind {
	case kindObject:
		d.remember(key, f.value)
	case kindList:
		if !slices.ContainsFunc(f.list, func(v value) bool { return v.kind == kindObject || v.kind == kindList }) {
			d.setting(key, texts(f.list), f)
			return
		}
		for _, v := range f.list {
			d.rememberField(key, field{key: f.key, at: v.at, value: v})
		}
	default:
		d.setting(key, f.value.text, f)
	}
}

func (d *draft) setting(key, text string, f field) {
	d.Settings = append(d.Settings, Setting{Key: key, Value: text, Source: d.r.source(f)})
}

func texts(list []value) (out string) {
	for i, v := range list {
		if i > 0 {
			out += ", "
		}
		out += v.text
	}
	return out
}
