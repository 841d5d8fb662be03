// SPDX-License-Identifier: Apache-2.0

package control

import (
	"errors"
	"testing"
	"time"

	"tacit/node/api"
	"tacit/node/checks"
	"tacit/node/definition"
	"tacit/node/inventory"
)

// fakeChecks has results by instance, and remembers the last report.
type fakeChecks struct {
	results map[string][]checks.Result
	said    string
	err     error
}

func (f *fakeChecks) Results(instance string) []checks.Result { return f.results[instance] }

func (f *fakeChecks) Update(id, status, note string) error {
	f.said = id + " " + status + " " + note
	return f.err
}

// TestShowChecks: a service's checks and what its file says in vain are those
// of the instance here.
func TestShowChecks(t *testing.T) {
	f := newFixture(t)
	f.inventory.has(definition.Definition{Name: "db", Port: 5432, Ignored: []string{"db.hcl:3: service.token: there are no ACL tokens"},
		Settings: []definition.Setting{{Key: "port", Value: "5432", Source: "db.hcl:2"}}}, inventory.StateVerified)
	if err := f.Grant("host1", "db", false); err != nil {
		t.Fatal(err)
	}
	f.runs(t, "host2", f.admit(t, "host2", "10.0.0.2"), "db", 5432)
	f.loop.Settle()
	at := time.Now()
	f.checks.results = map[string][]checks.Result{"db": {{ID: "service:db", Name: "ping", Kind: definition.CheckTCP, Status: "critical", Output: "refused", Since: at, Ran: at, Source: "db.hcl:7"}}}
	db, err := f.Services.Show(t.Context(), "db")
	if err != nil {
		t.Fatal(err)
	}
	want := api.HealthCheck{ID: "service:db", Name: "ping", Kind: "tcp", Status: "critical", Output: "refused", Since: at, Ran: at, Source: "db.hcl:7"}
	if here := db.Instances[0]; len(here.Checks) != 1 || here.Checks[0] != want || len(here.Ignored) != 1 || len(here.Settings) != 1 {
		t.Errorf("here: %+v", here)
	}
	if there := db.Instances[1]; there.Checks != nil || there.Ignored != nil {
		t.Errorf("elsewhere: %+v", there)
	}
}

func TestReport(t *testing.T) {
	f := newFixture(t)
	out, err := f.Services.Report(t.Context(), api.CheckReport{ID: "batch", Status: "warning", Note: "slow"})
	if err != nil || *out != (api.CheckReported{ID: "batch", Status: "warning"}) || f.checks.said != "batch warning slow" {
		t.Errorf("%+v, %v, said %q", out, err, f.checks.said)
	}
	f.checks.err = errors.New("no check of this node has the id batch; ttl checks: none")
	_, err = f.Services.Report(t.Context(), api.CheckReport{ID: "batch", Status: "passing"})
	differs(t, "an unknown one", says(err), "2: no check of this node has the id batch; ttl checks: none [tacit service show NAME lists the checks of a service]")
}
