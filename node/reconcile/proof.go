// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"tacit/identity"
	"tacit/node/catalog"
	"tacit/node/health"
	"tacit/node/reconcile/share"
	"tacit/policy/ledger/statement"
)

// standing is what this node knows about the policy in force on it, and about who
// else is there.
type standing struct {
	proof    atomic.Pointer[proof]
	tampered atomic.Pointer[string] // what others have changed since the last reconciliation
	policy   [32]byte               // digest of the records that the table follows from; guarded by applying
	absent   absent
	retired  bool                         // another daemon reconciles; guarded by applying
	shares   atomic.Pointer[share.Shares] // of the members, in the kernel's maps
}

// proof is which policy should be in force, and which one is.
type proof struct{ wanted, inForce string }

func (s *standing) load() proof {
	if p := s.proof.Load(); p != nil {
		return *p
	}
	return proof{}
}

// Digest is that of the policy and of the rules for connections which should be in
// force here, "" before the first reconciliation.
func (l *Loop) Digest() string { return l.load().wanted }

// InForce is the digest of what the kernel's maps hold, "" while they don't hold a
// policy as a whole: before the first reconciliation, when a map can't be written, or
// when something else has changed one.
func (l *Loop) InForce() string { return l.load().inForce }

// Tampered says that something else has changed what the kernel holds. What is in
// force is withdrawn, put right and announced again. It never blocks.
func (l *Loop) Tampered(what string) {
	l.tampered.Store(&what)
	l.Judge()
}

// withdraw announces that the policy isn't in force where something else has changed
// it: before it is put right, so that nobody relies on it meanwhile.
func (l *Loop) withdraw() {
	what := l.tampered.Swap(nil)
	if what == nil {
		return
	}
	l.conf.Health.Set(health.Revision, "", errors.New("withdrawn: "+*what+" was changed by others"))
	l.conf.Log.Warn("this node's policy is announced as not in force: something else has changed it", "object", *what)
	l.proof.Store(&proof{wanted: l.Digest()})
	l.conf.Announce("", l.Catalog().Digest())
}

// announce tells what the kernel's maps hold now.
func (l *Loop) announce(cat *catalog.Catalog) {
	rev, now := l.conf.Enforcer.Revision(), &proof{wanted: l.stamped(cat, l.Policy().Digest())}
	if rev.Err == nil {
		now.inForce = l.stamped(cat, rev.Digest)
	}
	err := rev.Err
	if err == nil && now.inForce != now.wanted {
		err = errors.New("the kernel's maps hold another policy than the records say")
	}
	l.conf.Health.Set(health.Revision, "", err)
	l.proof.Store(now)
	l.conf.Announce(now.inForce, cat.Digest())
}

// stamped extends the digest of a policy by the rules for connections, and by the
// records from which both follow: a policy that was in force before a change, and is
// again, has another digest.
func (l *Loop) stamped(cat *catalog.Catalog, digest string) string {
	sum := sha256.Sum256(append([]byte(cat.PolicyDigest(digest)), l.policy[:]...))
	return hex.EncodeToString(sum[:len(digest)/2])
}

// absent remembers since when members don't answer.
type absent struct {
	mu    sync.Mutex
	since map[identity.Name]time.Time
}

func (a *absent) note(up map[identity.Name]bool, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	since := map[identity.Name]time.Time{}
	for name, at := range a.since {
		if !up[name] { // also where gossip has forgotten it
			since[name] = at
		}
	}
	for name, answers := range up {
		if _, known := since[name]; !known && !answers {
			since[name] = now
		}
	}
	a.since = since
}

// Absent says since when nodes that gossip knew don't answer.
func (l *Loop) Absent() map[identity.Name]time.Time {
	l.absent.mu.Lock()
	defer l.absent.mu.Unlock()
	return maps.Clone(l.absent.since)
}

// divide finds out anew what members announce beyond their shares.
func (l *Loop) divide() {
	was, now := l.Excess(), share.Divide(l.conf.Records)
	l.shares.Store(&now)
	if !slices.Equal(was, now.Excess) {
		for _, e := range now.Excess {
			l.conf.Log.Warn("a member announces more than its share; the rest is left out on every node", "excess", e.String())
		}
	}
}

// Excess is what members announce beyond their shares of the kernel's maps.
func (l *Loop) Excess() []share.Excess {
	if s := l.shares.Load(); s != nil {
		return s.Excess
	}
	return nil
}

// shared are records without the instances that are left out.
type shared struct {
	catalog.Records
	share.Shares
}

// Instances lists those that are left.
func (s shared) Instances() []statement.Instance { return s.Keep(s.Records.Instances()) }
