// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"context"
	"fmt"
	"testing"
	"time"

	"tacit/internal/testhost"
	"tacit/node/config"
)

const many = 1000

// busyHost has that many services, each with a unit and a socket that listens.
func busyHost(b *testing.B) *host {
	h := newHost(b, config.Exclude{})
	for n := range many {
		h.cgroup(fmt.Sprintf("system.slice/svc%d.service", n))
		h.listen(20000 + n)
	}
	for n := range many {
		h.define(n, 1)
	}
	h.reload()
	ctx, cancel := context.WithCancel(b.Context())
	ended, events := make(chan error, 1), make(chan struct{}, 1)
	go func() {
		ended <- h.Run(ctx, func() {
			select {
			case events <- struct{}{}:
			default:
			}
		})
	}()
	b.Cleanup(func() { cancel(); <-ended })
	<-events // the tree is followed
	testhost.Eventually(b, 5*time.Second, "a look that finds nothing new", func() error {
		if v, changed := h.Look(); changed || len(v.Services) != many || !v.Services[0].Listener.Present() {
			return fmt.Errorf("changed: %t, %d services", changed, len(v.Services))
		}
		return nil
	})
	return h
}

// define writes the file of service n.
func (h *host) define(n, weight int) {
	h.write(fmt.Sprintf("svc%d.hcl", n), fmt.Sprintf("service {\n  name = \"svc%d\"\n  port = %d\n  weights { passing = %d }\n}\n", n, 20000+n, weight))
}

// BenchmarkLookUnchanged is an idle node's look.
func BenchmarkLookUnchanged(b *testing.B) {
	h := busyHost(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, changed := h.Look(); changed {
			b.Fatal("something changed")
		}
	}
}

// BenchmarkLookDefinition is a look after one service file has changed, without
// the reading of that file.
func BenchmarkLookDefinition(b *testing.B) {
	h := busyHost(b)
	for n := 2; b.Loop(); n++ {
		b.StopTimer()
		h.define(7, n)
		h.reload()
		b.StartTimer()
		if _, changed := h.Look(); !changed {
			b.Fatal("nothing changed")
		}
	}
}

// BenchmarkReload is the reading of the service files after one has changed.
func BenchmarkReload(b *testing.B) {
	h := busyHost(b)
	for n := 2; b.Loop(); n++ {
		b.StopTimer()
		h.define(7, n)
		b.StartTimer()
		h.reload()
	}
}

// BenchmarkLookCgroup is a look after a unit has started or stopped.
func BenchmarkLookCgroup(b *testing.B) {
	h := busyHost(b)
	for n := 0; b.Loop(); n++ {
		h.cgroups.stale.Store(true)
		h.Look()
	}
}

// BenchmarkLookSocket is a look after one socket has begun or ceased to listen.
func BenchmarkLookSocket(b *testing.B) {
	h := busyHost(b)
	for b.Loop() {
		b.StopTimer()
		ln := h.listen(19999)
		b.StartTimer()
		h.Look()
		b.StopTimer()
		_ = ln.Close()
		h.Look()
		b.StartTimer()
	}
}

// BenchmarkListener is the look at one service's port, before a dial.
func BenchmarkListener(b *testing.B) {
	h := busyHost(b)
	s := h.View().Services[0]
	b.ReportAllocs()
	for b.Loop() {
		if l := h.Listener(s); !l.Present() {
			b.Fatalf("%+v", l)
		}
	}
}

// BenchmarkGuards and the next are what a change costs beside the look.
func BenchmarkGuards(b *testing.B) {
	h := busyHost(b)
	low, high := EphemeralPorts()
	for b.Loop() {
		h.View().Guards(low, high)
	}
}
