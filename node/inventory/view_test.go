// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"fmt"
	"testing"

	"tacit/identity"
	"tacit/node/definition"
)

// service is one with nothing but a definition.
func service(name identity.Name, id string, port uint16) Service {
	return Service{Definition: definition.Definition{Name: name, ID: id, Port: port, Source: id + ".hcl:1"}}
}

// TestFind: port and name pick an instance, the id one of several.
func TestFind(t *testing.T) {
	v := &View{Services: []Service{service("db", "db", 5432), service("db", "db-2", 5433), service("web", "web", 0), service("db", "db-3", 5432)}}
	for _, c := range []struct {
		name identity.Name
		port uint16
		id   string
		want string
	}{
		{"db", 5432, "", "db"},
		{"db", 5432, "db-3", "db-3"},
		{"db", 5433, "", "db-2"},
		{"db", 5433, "db", ""},
		{"web", 0, "", "web"},
		{"web", 5432, "", ""},
		{"db", 80, "", ""},
	} {
		s, ok := v.Find(c.name, c.port, c.id)
		if s.ID != c.want || ok != (c.want != "") {
			t.Errorf("%s:%d %q: %q, %t", c.name, c.port, c.id, s.ID, ok)
		}
	}
	if s, ok := v.ByID("db-2"); !ok || s.Port != 5433 {
		t.Errorf("%+v, %t", s, ok)
	}
	if s, ok := v.OnPort(5433); !ok || s.ID != "db-2" {
		t.Errorf("on port 5433: %+v, %t", s, ok)
	}
	for _, port := range []uint16{0, 80} {
		if s, ok := v.OnPort(port); ok {
			t.Errorf("on port %d: %+v", port, s)
		}
	}
	if _, ok := v.ByID("db-9"); ok {
		t.Error("an instance that isn't there")
	}
	if got := fmt.Sprint(v.Names()); got != "[db web]" {
		t.Errorf("names %s", got)
	}
}

// TestClash: one port of a node belongs to one instance, and so does an id.
func TestClash(t *testing.T) {
	public := Service{Definition: definition.Definition{Name: "ingress/a", ID: "ingress/a", Ingress: &definition.Ingress{Port: 8080}}}
	v := &View{Services: []Service{service("db", "db", 5432), public}}
	for _, c := range []struct {
		id    string
		name  identity.Name
		port  uint16
		file  string
		fails bool
	}{
		{"db", "db", 5432, "db.hcl:1", false}, // the same again
		{"db", "db", 5432, SourceCommand, true},
		{"db", "web", 80, "db.hcl:1", true},
		{"db-2", "db", 5432, "", true},
		{"web", "web", 5432, "", true},
		{"web", "web", 80, "", false},
		{"web", "web", 8080, "", true},
		{"client", "client", 0, "", false},
	} {
		err := v.Clash(definition.Definition{Name: c.name, ID: c.id, Port: c.port, Source: c.file})
		if (err != nil) != c.fails {
			t.Errorf("%s on %d: %v", c.id, c.port, err)
		}
	}
}
