// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// enough is how long a round may take in all, with those that are measured again:
// three rounds on a busy machine end within ten minutes.
const enough = 2 * time.Minute

// BenchmarkPeers measures every system and writes the table, the chart and all
// samples to the folder BENCH_OUT. bench/peers.sh starts it.
func BenchmarkPeers(b *testing.B) {
	begin := time.Now()
	rounds, seconds := setting(b, "BENCH_ROUNDS", 3), setting(b, "BENCH_SECONDS", 2)
	var all []*system
	r := Results{Machine: machine(), Versions: map[string]string{}, Seconds: float64(seconds)}
	for _, name := range Systems() {
		s := start(b, name)
		s.serveBulk(b)
		all = append(all, s)
		r.Versions[name] = version(b, s)
	}
	once := map[string]Values{}
	for _, s := range all {
		once[s.name] = Values{}
		s.internals(b, 1000, once[s.name])
	}
	r.Best = yardstick()
	for n := 0; len(r.Rounds) < rounds && (n == 0 || time.Since(begin) < time.Duration(rounds)*enough); n++ {
		round := measure(b, all, n, seconds)
		r.Best = max(r.Best, round.Speed)
		r.Rounds = append(r.Rounds, round)
		r.setSlowAside()
	}
	if len(r.Rounds) == 0 { // the table says that they are slow
		r.Rounds, r.Slow = r.Slow, nil
	}
	for name, v := range once {
		maps.Copy(r.Rounds[0].Systems[name], v)
	}
	testhost.Must(b, r.write(os.Getenv("BENCH_OUT")))
}

// setSlowAside sets the rounds aside in which the machine was slow.
func (r *Results) setSlowAside() {
	var good []Round
	for _, round := range r.Rounds {
		if TooSlow(round.Speed, r.Best) {
			say("a round is measured again: the yardstick has shown %.2f GB/s, at best %.2f", round.Speed, r.Best)
			r.Slow = append(r.Slow, round)
		} else {
			good = append(good, round)
		}
	}
	r.Rounds = good
}

func setting(b testing.TB, name string, otherwise int) int {
	b.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		b.Fatalf("%s=%s: want a number from 1", name, text)
	}
	return n
}

// measure measures a round; each begins with another system.
func measure(b testing.TB, all []*system, n, seconds int) Round {
	b.Helper()
	round := Round{Speed: yardstick(), Systems: map[string]Values{}}
	for i := range all {
		s, v := all[(i+n)%len(all)], Values{}
		began := time.Now()
		s.remote(b, seconds, v)
		s.same(b, seconds, v)
		round.Systems[s.name] = v
		round.Speed = min(round.Speed, yardstick())
		say("round %d, %-8s %3.0f s: %s requests/s at 32, %s Gbit/s, %s new connections/s",
			n+1, s.name+":", time.Since(began).Seconds(), number(v["rps32"]), number(v["bulk1"]), number(v["new"]))
	}
	return round
}

// yardstick is how fast all cores hash for a tenth of a second, in GB/s.
func yardstick() float64 {
	var blocks atomic.Int64
	var wait sync.WaitGroup
	begin := time.Now()
	for range runtime.NumCPU() {
		wait.Go(func() {
			for block := make([]byte, 1<<14); time.Since(begin) < 100*time.Millisecond; blocks.Add(1) {
				sha256.Sum256(block)
			}
		})
	}
	wait.Wait()
	return float64(blocks.Load()<<14) / 1e9 / time.Since(begin).Seconds()
}

// machine describes this machine, and how busy it was before the run.
func machine() string {
	release, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	load, _ := os.ReadFile("/proc/loadavg")
	minute, _, _ := strings.Cut(string(load), " ")
	return fmt.Sprintf("Linux %s, %d cores, load average %s before", strings.TrimSpace(string(release)), runtime.NumCPU(), minute)
}

func (r *Results) write(dir string) error {
	samples, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	for name, text := range map[string]string{"results.json": string(samples) + "\n", "table.txt": r.Table(), "bench.svg": r.Chart()} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// say reports progress at once.
func say(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
