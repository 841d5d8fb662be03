// SPDX-License-Identifier: Apache-2.0

package membership_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tacit/identity"
	"tacit/node/enrol"
	"tacit/node/health"
	"tacit/node/membership"
)

// counted is this node's issuer: it counts, and fails while down is set.
type counted struct {
	*membership.Issuer
	issued atomic.Int32
	down   atomic.Bool
}

var errDown = errors.New("the authority is down")

func (c *counted) Issue(ctx context.Context, node identity.Name, spki []byte, r enrol.Renewal) (*enrol.Issued, error) {
	if c.down.Load() {
		return nil, errDown
	}
	c.issued.Add(1)
	return c.Issuer.Issue(ctx, node, spki, r)
}

// manage runs a certificate manager on n until the test ends. Time is
// synctest's, and certificates live an hour.
func manage(t *testing.T, n node) (*membership.Certificates, *counted) {
	t.Helper()
	issuer := &counted{Issuer: n.issuer}
	c := membership.NewCertificates(membership.CertificatesConfig{Member: n.Member, Settings: n.settings, Roll: n.records.View(),
		Issuer: issuer, Health: n.board, Log: n.settings.Log})
	run(t, c)
	return c, issuer
}

func run(t *testing.T, c *membership.Certificates) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// pass lets time pass, and waits for what it brings about.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func problem(n node, thing string) error { return n.board.Get(health.Certificate, thing) }

// TestRenewal: the node's and a service's certificates are replaced at about
// half life, once each, and kept.
func TestRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := bootstrap(t, "n1")
		n.grant(t, "n1", "db")
		c, issuer := manage(t, n)
		c.Want([]identity.Name{"db"})
		synctest.Wait()
		db, err := c.ServiceSVID("db")
		must(t, err)
		if issuer.issued.Load() != 1 || c.NodeSVID() != n.SVID || c.Check() != nil {
			t.Errorf("issued %d at the start, %v", issuer.issued.Load(), c.Check())
		}
		pass(20 * time.Minute)
		if issuer.issued.Load() != 1 {
			t.Error("renewed too early")
		}
		pass(20 * time.Minute)
		fresh, err := c.ServiceSVID("db")
		must(t, err)
		if issuer.issued.Load() != 3 || fresh == db || c.NodeSVID() == n.SVID || fresh.Key.ID() == db.Key.ID() || c.NodeSVID().Key != n.Key {
			t.Errorf("issued %d after half life", issuer.issued.Load())
		}
		kept, err := identity.LoadSVID(n.settings.State("node.crt"), n.Key)
		if err != nil || !kept.Chain[0].Equal(c.NodeSVID().Chain[0]) {
			t.Errorf("on disk is another certificate: %v", err)
		}
		pass(24 * time.Hour)
		if issued := issuer.issued.Load(); issued > 140 || c.Check() != nil {
			t.Errorf("issued %d in a day, %v", issued, c.Check())
		}
	})
}

// TestWant: services come and go, and another call for the same ones does nothing.
func TestWant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := bootstrap(t, "n1")
		n.grant(t, "n1", "db")
		n.grant(t, "n1", "web")
		c, issuer := manage(t, n)
		for _, step := range []struct {
			want   []identity.Name
			served string
			issued int32
		}{
			{[]identity.Name{"web", "db"}, "node/n1 svc/db svc/web", 2},
			{[]identity.Name{"db", "web"}, "node/n1 svc/db svc/web", 2},
			{[]identity.Name{"web"}, "node/n1 svc/web", 2},
			{nil, "node/n1", 2},
			{[]identity.Name{"db"}, "node/n1 svc/db", 3},
		} {
			c.Want(step.want)
			synctest.Wait()
			var served []string
			for _, s := range c.Served() {
				served = append(served, strings.TrimPrefix(s.ID.String(), "spiffe://"+domain+"/"))
				if life := s.NotAfter.Sub(s.NotBefore); !s.RenewAt.After(s.NotBefore.Add(life/3)) || !s.RenewAt.Before(s.NotBefore.Add(2*life/3)) {
					t.Errorf("renewal of %s at %s, valid from %s to %s", s.ID, s.RenewAt, s.NotBefore, s.NotAfter)
				}
			}
			if got := strings.Join(served, " "); got != step.served || issuer.issued.Load() != step.issued {
				t.Errorf("%v: serves %s after %d issued, want %s after %d", step.want, got, issuer.issued.Load(), step.served, step.issued)
			}
		}
	})
}

// TestRevokedKeyIsReplaced: a service's revoked key serves no longer, and another one
// does; so does a certificate by another authority for one by a revoked authority,
// which issues nothing any more.
func TestRevokedKeyIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := bootstrap(t, "n1")
		n.grant(t, "n1", "db")
		c, issuer := manage(t, n)
		c.Want([]identity.Name{"db"})
		synctest.Wait()
		first, err := c.ServiceSVID("db")
		must(t, err)
		n.revoke(t, first.Key.ID(), "n1")
		c.Want([]identity.Name{"db"})
		synctest.Wait()
		second, err := c.ServiceSVID("db")
		if err != nil || second.Key.ID() == first.Key.ID() || issuer.issued.Load() != 2 {
			t.Fatalf("%v, %d issued", err, issuer.issued.Load())
		}
		n.revoke(t, n.Authority.Key().ID(), "n1")
		c.Want([]identity.Name{"db"})
		synctest.Wait()
		if s, err := c.ServiceSVID("db"); err == nil {
			t.Errorf("a certificate by a revoked authority serves: %v", s.ID)
		}
		if err := problem(n, "this node"); err == nil || !strings.Contains(err.Error(), "no authority is known yet") {
			t.Errorf("the node's certificate: %v", err)
		}
		if _, err := n.issuer.Issue(t.Context(), "n1", n.Key.Public(), enrol.Renewal{Service: "db", CSR: newCSR(t, newKey(t))}); err == nil || !strings.Contains(err.Error(), "is not an authority") {
			t.Errorf("a revoked authority issues: %v", err)
		}
	})
}

// TestRenewalFails: it is reported and tried again; the old certificate serves
// until it ends; a service that isn't wanted any more is no problem.
func TestRenewalFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := bootstrap(t, "n1")
		n.grant(t, "n1", "db")
		c, issuer := manage(t, n)
		c.Want([]identity.Name{"db", "web"}) // web isn't granted
		synctest.Wait()
		if err := problem(n, "web"); err == nil || !strings.Contains(err.Error(), "is not granted") {
			t.Errorf("problem of web: %v", err)
		}
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), "no certificate for service web yet") {
			t.Errorf("Check: %v", err)
		}
		issuer.down.Store(true)
		pass(40 * time.Minute)
		for _, thing := range []string{"this node", "db", "web"} {
			if !errors.Is(problem(n, thing), errDown) {
				t.Errorf("problem of %s: %v", thing, problem(n, thing))
			}
		}
		if _, err := c.ServiceSVID("db"); err != nil || c.NodeSVID() != n.SVID {
			t.Errorf("the old certificates don't serve: %v", err)
		}
		pass(30 * time.Minute)
		if _, err := c.ServiceSVID("db"); err == nil || c.Check() == nil || len(c.Served()) != 1 {
			t.Errorf("an expired certificate counts: %v, %v", err, c.Check())
		}
		c.Want([]identity.Name{"db"})
		issuer.down.Store(false)
		pass(3 * time.Second)
		if left := n.board.Problems(); len(left) != 0 || c.Check() != nil {
			t.Errorf("left %v, %v", left, c.Check())
		}
	})
}

// TestRenewedCertificateCannotBeKept: it serves all the same, status says so,
// and only writing it is tried again.
func TestRenewedCertificateCannotBeKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := bootstrap(t, "n1")
		c, issuer := manage(t, n)
		file := n.settings.State("node.crt")
		must(t, errors.Join(os.Remove(file), os.Mkdir(file, 0o700))) // no file can take its place
		pass(40 * time.Minute)
		if c.NodeSVID() == n.SVID || issuer.issued.Load() != 1 {
			t.Errorf("the renewed certificate isn't in use; %d issued", issuer.issued.Load())
		}
		if err := problem(n, "this node"); err == nil || !strings.Contains(err.Error(), "is in use and can't be kept") {
			t.Errorf("problem: %v", err)
		}
		must(t, os.Remove(file))
		pass(3 * time.Second)
		kept, err := identity.LoadSVID(file, n.Key)
		if err != nil || !kept.Chain[0].Equal(c.NodeSVID().Chain[0]) || problem(n, "this node") != nil || issuer.issued.Load() != 1 {
			t.Errorf("after it can be written: %v, %v, %d issued", err, problem(n, "this node"), issuer.issued.Load())
		}
	})
}

// TestAskAnotherAuthority over a real connection, by its address in the
// records, past an authority that doesn't answer.
func TestAskAnotherAuthority(t *testing.T) {
	n1 := bootstrap(t, "n1")
	n1.serve(t, n1.issuer)
	n2 := enter(t, joining(t, "n2", n1.token(t, membership.TokenRequest{Node: "n2", Services: []identity.Name{"db"}})))
	checked := atomic.Int32{}
	manager := func(roll membership.Roll) *membership.Certificates {
		c := membership.NewCertificates(membership.CertificatesConfig{Member: n2.Member, Settings: n2.settings, Roll: roll,
			Check: func(id identity.ID, chain []identity.KeyID) error {
				checked.Add(1)
				return membership.CheckPeer(n2.records.View())(id, chain)
			}, Health: n2.board, Log: n2.settings.Log})
		run(t, c)
		c.Want([]identity.Name{"db"})
		return c
	}
	alone := manager(n2.records.View())
	eventually(t, func() error { return alone.Check() })
	svid, err := alone.ServiceSVID("db")
	must(t, err)
	if id, err := n1.Bundle.Verify(svid.Chain, time.Now()); err != nil || id != identity.ServiceID(domain, "db") || checked.Load() == 0 {
		t.Errorf("issued to %s, %v, %d checks of the authority", id, err, checked.Load())
	}
	past := manager(morePeers{n2.records.View()})
	eventually(t, func() error { return past.Check() })
	none := manager(noAuthorities{n2.records.View()})
	eventually(t, func() error {
		if err := problem(n2, "db"); err == nil || !strings.Contains(err.Error(), "no authority is known yet") {
			return errors.Join(errors.New("no problem"), err)
		}
		return nil
	})
	if none.Check() == nil {
		t.Error("a certificate without an authority")
	}
}
