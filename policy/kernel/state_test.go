// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"reflect"
	"testing"
)

// TestEqualSeesEveryField: Apply would ignore a change to a field that equal
// doesn't compare.
func TestEqualSeesEveryField(t *testing.T) {
	if !(State{}).equal(State{}) {
		t.Error("two empty States differ")
	}
	fill(t, reflect.TypeFor[State](), nil)
}

// fill sets one field at a time, at the given place below State.
func fill(t *testing.T, in reflect.Type, at []int) {
	for i := range in.NumField() {
		field, path := in.Field(i), append(at[:len(at):len(at)], i)
		if field.Type.Kind() == reflect.Struct {
			fill(t, field.Type, path)
			continue
		}
		var s State
		v := reflect.ValueOf(&s).Elem().FieldByIndex(path)
		switch v.Kind() {
		case reflect.Slice:
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		case reflect.Map:
			v.Set(reflect.MakeMap(v.Type()))
			v.SetMapIndex(reflect.Zero(v.Type().Key()), reflect.Zero(v.Type().Elem()))
		case reflect.Pointer:
			v.Set(reflect.New(v.Type().Elem()))
		default:
			t.Fatalf("%s: teach this test to fill a %s", field.Name, v.Kind())
		}
		if s.equal(State{}) || (State{}).equal(s) {
			t.Errorf("%s.%s is not compared", in.Name(), field.Name)
		}
	}
}
