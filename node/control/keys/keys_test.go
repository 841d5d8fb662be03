// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tacit/identity"
	"tacit/node/api"
	"tacit/policy"
	"tacit/policy/ledger"
	"tacit/policy/ledger/statement"
	"tacit/tproxy/lane"
)

// rootKey takes the root key away from host1 and returns it.
func (m *mesh) rootKey() string {
	m.t.Helper()
	h := m.hosts[0]
	root, err := h.ExportRoot(m.t.Context(), api.RootExport{})
	must(m.t, err)
	_, err = h.DropRoot(m.t.Context(), api.RootCopy{PEM: root.PEM})
	must(m.t, err)
	return root.PEM
}

func lines(all []api.Key) string {
	var out []string
	for _, k := range all {
		out = append(out, fmt.Sprintf("%s %s %s %s %v here=%v", k.Kind, k.Node, k.Service, k.State, k.SignedBy, k.Here))
	}
	return strings.Join(out, "\n")
}

func labels(all []api.Rested) (out []string) {
	for _, r := range all {
		out = append(out, r.Label)
	}
	return out
}

// TestList: every key has its holder, who signed it, and whether it counts.
func TestList(t *testing.T) {
	m := newMesh(t, "host2")
	h1, h2 := m.host("host1"), m.host("host2")
	h2.become(h1, "")
	web := newKey(t).ID()
	h1.lanes = []lane.Info{{Peer: identity.NodeID(domain, "host2"), Proven: []lane.Proven{{ID: identity.ServiceID(domain, "web"), Key: web}}}}
	found := newKey(t).ID()
	for _, id := range []identity.KeyID{web, found} {
		_, err := h1.Revoke(t.Context(), api.Revocation{Scope: api.ScopeKey, Subject: id.String(), Reason: "found on a disk"})
		must(t, err)
	}
	all, err := h1.List(t.Context())
	must(t, err)
	if got, want := lines(all), `root   in force [] here=true
operator host1  in force [root] here=true
operator host2  in force [root] here=false
authority host1  in force [root] here=true
node host1  in force [authority host1] here=true
node host2  in force [authority host1] here=false
service host2 web revoked [] here=false
unknown   revoked [] here=false`; got != want || all[6].Reason != "found on a disk" || all[7].ID != found.String() {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if of := Of(h1.records.View(), "host2"); len(of) != 2 || of[0].Kind != api.KeyOperator || of[1].Kind != api.KeyNode {
		t.Errorf("of host2: %+v", of)
	}
}

// TestOfferIsTheNodes: an operator adds no key but one that the node itself has offered.
func TestOfferIsTheNodes(t *testing.T) {
	m := newMesh(t, "host2", "host3")
	h1, h2, h3 := m.host("host1"), m.host("host2"), m.host("host3")
	offer, err := h2.Offer(t.Context(), api.OfferRequest{})
	must(t, err)
	again, err := h2.Offer(t.Context(), api.OfferRequest{})
	must(t, err)
	if again.Key.ID != offer.Key.ID || offer.Key.State != api.KeyVoid {
		t.Errorf("offered %+v, then %+v", offer.Key, again.Key)
	}
	other, err := h3.Offer(t.Context(), api.OfferRequest{})
	must(t, err)
	stranger := newMesh(t, "host2").host("host2")
	foreign, err := stranger.Offer(t.Context(), api.OfferRequest{})
	must(t, err)
	for name, c := range map[string]struct {
		by   *host
		add  api.OperatorAddition
		want string
	}{
		"another node's":          {h1, api.OperatorAddition{Node: "host2", Line: other.Line}, "2: not the line"},
		"of another mesh":         {h1, api.OperatorAddition{Node: "host2", Line: foreign.Line}, "2: not the line"},
		"cut off":                 {h1, api.OperatorAddition{Node: "host2", Line: offer.Line[:100]}, "2: not the line"},
		"nobody's":                {h1, api.OperatorAddition{Node: "host9", Line: offer.Line}, "2: no node is called host9"},
		"without an operator key": {h3, api.OperatorAddition{Node: "host2", Line: offer.Line}, "1: adding an operator needs an operator key, and this node (host3) holds none"},
		"with another's root":     {h3, api.OperatorAddition{Node: "host2", Line: offer.Line, RootKey: m.stranger()}, "1: --root-key: "},
		"with a bad root":         {h3, api.OperatorAddition{Node: "host2", Line: offer.Line, RootKey: "x"}, "2: --root-key: not a PEM"},
	} {
		if _, err := c.by.AddOperator(t.Context(), c.add); !strings.HasPrefix(refused(err), c.want) {
			t.Errorf("%s: %s, want %s", name, refused(err), c.want)
		}
	}
	h2.become(h1, "")
	h2.intend("allow web db")
}

// stranger is the root key of another mesh.
func (m *mesh) stranger() string {
	text, err := newKey(m.t).PEM()
	must(m.t, err)
	return string(text)
}

// TestRevokeNode: all keys of the node are revoked, its grants withdrawn, and what its
// operator key signed stays in force.
func TestRevokeNode(t *testing.T) {
	m := newMesh(t, "host2", "host3")
	h1, h2, h3 := m.host("host1"), m.host("host2"), m.host("host3")
	member, operator := h2.Key.ID(), h2.become(h1, "").ID
	h1.intend("deny web db")
	h2.intend("deny * vault")
	h2.grant("host3", "api")
	h2.grant("host2", "web")
	h1.grant("host2", "db")
	m.spread()
	web := newKey(t).ID()
	h1.lanes = []lane.Info{{Peer: identity.NodeID(domain, "host2"), Proven: []lane.Proven{{ID: identity.ServiceID(domain, "web"), Key: web}}}}
	ask := api.Revocation{Scope: api.ScopeNode, Subject: "host2", Reason: "disk stolen", DryRun: true}
	plan, err := h1.Revoke(t.Context(), ask)
	must(t, err)
	if h1.records.View().Revoked(member) || plan.Done || h1.settled > 1 {
		t.Error("a dry run changed something")
	}
	ask.DryRun = false
	out, err := h1.Revoke(t.Context(), ask)
	must(t, err)
	if fmt.Sprint(labels(out.Again)) != "[grant/host3/api intention/*>vault]" || !slices.Equal(out.Withdrawn, []string{"host2/db", "host2/web"}) || len(out.Revoked) != 3 ||
		fmt.Sprint(labels(plan.Again), plan.Withdrawn, len(plan.Revoked)) != fmt.Sprint(labels(out.Again), out.Withdrawn, len(out.Revoked)) {
		t.Errorf("%+v", out)
	}
	m.spread()
	for _, h := range []*host{h1, h3} {
		v := h.records.View()
		_, is := v.Member("host2")
		if is || !v.Revoked(member) || !v.Revoked(web) || !v.Revoked(id(api.Key{ID: operator})) || len(v.Grants("host2")) > 0 || !v.Granted("host3", "api") {
			t.Errorf("%s: member %v, grants %v", h.name, is, v.Grants("host2"))
		}
		if got := h.policy(); got != "deny * vault, deny web db" {
			t.Errorf("%s: %s", h.name, got)
		}
	}
	if !slices.Equal(h1.cut, []identity.Name{"host2"}) {
		t.Errorf("lanes cut with %v", h1.cut)
	}
	if h2.Operator.Key() != nil || h2.Operator.Held() == nil {
		t.Error("its operator key is in force")
	}
	err = h2.records.Sign(h2.Operator.Held(), allowAll())
	if _, rejected := ledger.New(domain, h1.Bundle.Fingerprint()).Merge(h2.records.View().Records()); err == nil || len(rejected) > 0 {
		t.Errorf("it signed: %v, rejected %v", err, rejected)
	}
}

// TestRevokeRefusals: what is refused changes nothing.
func TestRevokeRefusals(t *testing.T) {
	m := newMesh(t, "host2", "host3")
	h1, h2, h3 := m.host("host1"), m.host("host2"), m.host("host3")
	m.rootKey()
	h2.become(h1, "")
	h1.intend("deny web db")
	m.spread()
	key := func(h *host) string { return h.Operator.Key().ID().String() }
	for name, c := range map[string]struct {
		at      *host
		scope   api.Scope
		subject string
		want    string
	}{
		"no operator":                  {h3, api.ScopeNode, "host2", "1: revoking needs an operator key, and this node (host3) holds none in force"},
		"nobody":                       {h1, api.ScopeNode, "host9", "2: no node is called host9"},
		"itself":                       {h2, api.ScopeNode, "host2", "1: host2 can't revoke itself"},
		"the root":                     {h1, api.ScopeKey, m.hosts[0].Bundle.Fingerprint().String()[:12], "1: the root key can't be revoked"},
		"no such key":                  {h1, api.ScopeKey, "0123456789ab", "2: no key that this node knows begins with 0123456789ab"},
		"not an operator's":            {h1, api.ScopeOperator, "host3", "2: host3 is neither a node with an operator key"},
		"whoever vouched for itself":   {h2, api.ScopeOperator, "host1", "1: no operator would be left"},
		"its own, on which rules rest": {h1, api.ScopeKey, key(h1), "1: no operator would be left"},
		"the only authority":           {h2, api.ScopeKey, h1.Authority.Key().ID().String(), "1: member/host1 rests on a revoked authority alone, and host2 is no other"},
	} {
		before := c.at.records.View().Digest()
		if _, err := c.at.Revoke(t.Context(), api.Revocation{Scope: c.scope, Subject: c.subject}); !strings.HasPrefix(refused(err), c.want) || c.at.records.View().Digest() != before {
			t.Errorf("%s: %s, want %s", name, refused(err), c.want)
		}
	}
}

// TestRevokeAuthority: another authority signs the members again first; those are
// members all the time, and certificates by the revoked key are refused.
func TestRevokeAuthority(t *testing.T) {
	m := newMesh(t, "host2")
	h1, h2 := m.host("host1"), m.host("host2")
	h2.become(h1, "")
	var err error
	h2.Authority, err = identity.CreateAuthority(domain, "host2", t.TempDir(), time.Hour)
	must(t, err)
	h1.sign(h1.Authority.RootKey(), ledger.KindAuthority, "host2", statement.Authority{Node: "host2", Certificate: h2.Authority.Intermediate().Raw})
	m.spread()
	out, err := h2.Revoke(t.Context(), api.Revocation{Scope: api.ScopeKey, Subject: h1.Authority.Key().ID().String()})
	must(t, err)
	m.spread()
	if fmt.Sprint(labels(out.Again)) != "[member/host1 member/host2]" {
		t.Errorf("signed again: %v", labels(out.Again))
	}
	for _, h := range m.hosts {
		v := h.records.View()
		if len(v.Members()) != 2 || v.IsAuthority(h1.Authority.Key().ID()) || !slices.Equal(v.Authorities(), []identity.Name{"host2"}) {
			t.Errorf("%s: members %d, authorities %v", h.name, len(v.Members()), v.Authorities())
		}
	}
}

// TestRemoveOperator: what rests on its key stays, in the words in which it was in
// force; deletions stay deleted, and of a conflict the stronger rule stays.
func TestRemoveOperator(t *testing.T) {
	m := newMesh(t, "host2", "host3")
	h1, h2, h3 := m.host("host1"), m.host("host2"), m.host("host3")
	h2.become(h1, "")
	h3.become(h2, "") // by the operator that is going to be removed
	for _, step := range []struct {
		by   *host
		rule string
	}{{h1, "allow web db"}, {h2, "delete web db"}, {h2, "allow a b"}, {h1, "allow c d"}, {h2, "deny c d"}, {h3, "deny x y"}} {
		step.by.intend(step.rule)
		m.spread()
	}
	h2.intend("allow e f") // concurrently
	h1.intend("deny e f")
	m.spread()
	before := h1.policy()
	out, err := h1.Revoke(t.Context(), api.Revocation{Scope: api.ScopeOperator, Subject: "host2"})
	must(t, err)
	m.spread()
	operator := "operator/" + h3.Operator.Held().ID().Short()
	if got := fmt.Sprint(labels(out.Again)); got != fmt.Sprintf("[%s intention/a>b intention/c>d intention/web>db]", operator) {
		t.Errorf("signed again: %s", got)
	}
	for _, h := range m.hosts {
		if got := h.policy(); got != before || got != "allow a b, deny c d, deny e f, deny x y" {
			t.Errorf("%s: %s, before %s", h.name, got, before)
		}
	}
	if h3.Operator.Key() == nil {
		t.Error("an operator that the removed one made is no operator any more")
	}
}

// TestRootRestoresOperators: the operator key is stolen, the thief has revoked everybody
// else and made rules, and an operator. The root, kept offline, restores the mesh.
func TestRootRestoresOperators(t *testing.T) {
	m := newMesh(t, "host2", "host3", "evil")
	h1, h2, h3, evil := m.host("host1"), m.host("host2"), m.host("host3"), m.host("evil")
	root := m.rootKey()
	h2.become(h1, "")
	h1.intend("deny x secret")
	h2.intend("allow web db")
	m.spread()
	stolen := h1.Operator.Key()
	thief := &host{Member: h1.Member, t: t, records: h1.records}
	for _, c := range []struct {
		kind ledger.Kind
		key  string
		body any
	}{
		{ledger.KindRevocation, h2.Operator.Key().ID().String(), statement.Revocation{Public: h2.Operator.Key().ID()}},
		{ledger.KindIntention, "evil>secret", policy.Intention{Source: "evil", Destination: "secret", Action: policy.Allow}},
	} {
		thief.sign(stolen, c.kind, c.key, c.body)
	}
	evil.become(h1, "")
	evil.intend("allow evil db")
	m.spread()
	if h2.Operator.Key() != nil || h2.policy() != "allow evil db, allow evil secret, deny x secret" {
		t.Fatalf("the thief doesn't rule: %s", h2.policy())
	}
	h3.become(h2, root) // host2 holds no key in force: the root signs
	ask := api.Revocation{Scope: api.ScopeOperator, Subject: stolen.ID().String(), RootKey: root, Reason: "stolen", Without: []string{
		"intention/evil>secret", "operator/" + evil.Operator.Held().ID().Short(), "intention/evil>db", "revocation/" + h2.Operator.Held().ID().Short()}}
	out, err := h3.Revoke(t.Context(), ask)
	must(t, err)
	m.spread()
	if out.By != "root" || !slices.Contains(labels(out.Again), "intention/x>secret") || len(out.Lost) != 3 || len(out.Revoked) != 2 {
		t.Errorf("by %s, again %v, lost %v, %d keys revoked", out.By, labels(out.Again), labels(out.Lost), len(out.Revoked))
	}
	for _, h := range []*host{h1, h2, h3} {
		if got := h.policy(); got != "allow web db, deny x secret" {
			t.Errorf("%s: %s", h.name, got)
		}
		v := h.records.View()
		if v.IsOperator(stolen.ID()) || v.IsOperator(evil.Operator.Held().ID()) || !v.IsOperator(h2.Operator.Held().ID()) || !v.IsOperator(h3.Operator.Held().ID()) {
			t.Errorf("%s: operators %v", h.name, v.Operators())
		}
	}
	h2.intend("deny again db")
	h1.become(h2, "") // its old key is revoked: it makes another
	if h1.Operator.Key().ID() == stolen.ID() {
		t.Error("host1 uses the stolen key again")
	}
}

// TestRootIsTakenAway: the root key is gone from disk and memory only once a whole
// copy was shown; the node needs it for nothing, also over a restart.
func TestRootIsTakenAway(t *testing.T) {
	m := newMesh(t, "host2")
	h1, h2 := m.host("host1"), m.host("host2")
	file := filepath.Join(h1.dir, "authority", "root.key")
	for _, bad := range []string{"", m.stranger(), "-----BEGIN PRIVATE KEY-----\n"} {
		if _, err := h1.DropRoot(t.Context(), api.RootCopy{PEM: bad}); !strings.HasPrefix(refused(err), "2: the copy is not this mesh's root key") {
			t.Errorf("%.20q: %s", bad, refused(err))
		}
	}
	if _, err := os.Stat(file); err != nil || h1.Authority.RootKey() == nil {
		t.Fatalf("dropped without a copy: %v", err)
	}
	root := m.rootKey()
	if _, err := os.Stat(file); !os.IsNotExist(err) || h1.Authority.RootKey() != nil {
		t.Errorf("it is still there: %v", err)
	}
	for _, h := range []*host{h1, h2} {
		_, err := h.ExportRoot(t.Context(), api.RootExport{})
		if !strings.HasPrefix(refused(err), "1: the root key is not on this node") {
			t.Errorf("%s: %s", h.name, refused(err))
		}
	}
	again, err := identity.LoadAuthority(filepath.Join(h1.dir, "authority"), time.Hour)
	must(t, err)
	if again.RootKey() != nil {
		t.Error("a restart finds it")
	}
	h2.become(h1, root)
	if h1.Authority.RootKey() != nil {
		t.Error("the daemon kept what a request brought")
	}
}
