// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tacit/internal/testhost"
)

// connections are the numbers of connections of the loads with requests.
var connections = []int{1, 32, 256}

// remote measures what the client sees of the other host's servers.
func (s *system) remote(b testing.TB, seconds int, v Values) {
	b.Helper()
	for _, n := range connections {
		before := s.cpu(b)
		got := s.requests(b, s.farPort(httpPort), n, seconds)
		v[fmt.Sprintf("rps%d", n)] = got.Requests / got.Micros * 1e6
		v[fmt.Sprintf("p50_%d", n)], v[fmt.Sprintf("p99_%d", n)] = got.P50, got.P99
		s.spent(b, v, fmt.Sprintf("cpu%d", n), before, got.Requests/1e5)
		s.settle(b)
	}
	s.bulk(b, seconds, v)
	s.opening(b, seconds, v)
}

// spent sets a figure to the CPU that the proxies have used since, by what they
// have carried.
func (s *system) spent(b testing.TB, v Values, id string, before, carried float64) {
	b.Helper()
	if s.name != Direct {
		v[id] = (s.cpu(b) - before) / carried
	}
}

// bulk measures bytes, one stream and four, each way.
func (s *system) bulk(b testing.TB, seconds int, v Values) {
	b.Helper()
	before, bytes := s.cpu(b), 0.0
	for _, l := range []struct {
		id   string
		args []string
	}{{"bulk1", []string{"-P1"}}, {"bulk1r", []string{"-P1", "-R"}}, {"bulk4", []string{"-P4"}}, {"bulk4r", []string{"-P4", "-R"}}} {
		carried, bits := s.iperf(b, seconds, l.args...)
		bytes, v[l.id] = bytes+carried, bits/1e9
	}
	s.spent(b, v, "cpu_gb", before, bytes/1e9)
	s.settle(b)
}

// opening measures new connections, many at a time and one by one.
func (s *system) opening(b testing.TB, seconds int, v Values) {
	b.Helper()
	before := s.cpu(b)
	many := s.call(b, s.farPort(httpPort), 1<<30, 32, float64(seconds))
	s.complain(b, "new connections", many)
	v["new"] = float64(many.Calls) / many.Seconds
	s.spent(b, v, "cpu_new", before, float64(many.Calls)/1e5)
	s.settle(b)
	cold := s.call(b, s.farPort(httpPort), 500, 1, 2*float64(seconds))
	s.complain(b, "cold connections", cold)
	v["cold_p50"], v["cold_p99"] = cold.P50, cold.P99
}

// same measures the server on the client's own host, where there is a way to it.
func (s *system) same(b testing.TB, seconds int, v Values) {
	b.Helper()
	if !s.near.IsValid() {
		return
	}
	for _, n := range []int{1, 32} {
		got := s.requests(b, s.nearPort(nearPort), n, seconds)
		v[fmt.Sprintf("near_rps%d", n)] = got.Requests / got.Micros * 1e6
	}
	cold := s.call(b, s.nearPort(nearPort), 1000, 1, 2*float64(seconds))
	s.complain(b, "same-node connections", cold)
	v["near_connect"] = cold.Connect50
}

// internals measures, apart from the other loads, what the proxies do for a
// request, and what they hold for a connection.
func (s *system) internals(b testing.TB, idle int, v Values) {
	b.Helper()
	if s.name == Direct {
		return
	}
	s.idle(b, idle, v)
	for _, n := range connections {
		switches, count := s.switches(b), testhost.CountCalls(b, s.cgroups())
		got := s.requests(b, s.farPort(httpPort), n, 1)
		v[fmt.Sprintf("sys%d", n)] = float64(count()) / got.Requests
		v[fmt.Sprintf("switch%d", n)] = (s.switches(b) - switches) / got.Requests
		s.settle(b)
	}
}

func (s *system) idle(b testing.TB, number int, v Values) {
	b.Helper()
	s.settle(b)
	before := s.memory(b)
	cmd := s.client.Command("load", self(b), "load", "hold", s.farPort(httpPort), fmt.Sprint(number))
	in, err := cmd.StdinPipe()
	testhost.Must(b, err)
	out, err := cmd.StdoutPipe()
	testhost.Must(b, err)
	testhost.Must(b, cmd.Start())
	if _, err := io.ReadFull(out, make([]byte, len("open\n"))); err != nil {
		b.Fatalf("%s: holding %d connections: %v", s.name, number, errors.Join(err, cmd.Wait()))
	}
	s.settle(b)
	v["idle_kib"] = (s.memory(b) - before) / float64(number)
	testhost.Must(b, errors.Join(in.Close(), cmd.Wait()))
	s.settle(b)
}

// wrkResult is what the script below prints, times in microseconds.
type wrkResult struct{ Requests, Micros, P50, P99, Failed float64 }

const wrkScript = `function done(summary, latency)
	local e = summary.errors
	io.write(string.format('{"Requests":%d,"Micros":%d,"P50":%d,"P99":%d,"Failed":%d}\n', summary.requests, summary.duration,
		latency:percentile(50), latency:percentile(99), e.connect + e.read + e.write + e.status + e.timeout))
end
`

// requests has wrk send requests over connections that stay open.
func (s *system) requests(b testing.TB, address string, conns, seconds int) (got wrkResult) {
	b.Helper()
	script := filepath.Join(s.client.Dir, "wrk.lua")
	testhost.WriteFile(b, script, wrkScript)
	out, errs, exit := s.client.Output(b, "load", "wrk", "-t", fmt.Sprint(min(conns, 2)), "-c", fmt.Sprint(conns), "-d", fmt.Sprintf("%ds", seconds), "-s", script, "http://"+address+"/")
	_, result, _ := strings.Cut(out, "\n{")
	if err := json.Unmarshal([]byte("{"+result), &got); err != nil || exit != 0 || got.Requests == 0 {
		b.Fatalf("%s: wrk: exit %d, %v\n%s%s", s.name, exit, err, out, errs)
	}
	if got.Failed > 0 {
		say("%s: %.0f of %.0f requests failed, %d connections", s.name, got.Failed, got.Requests, conns)
	}
	return got
}

// iperfResult is what is read of iperf3's report.
type iperfResult struct {
	Error string
	End   struct {
		Received struct {
			Bytes float64
			Bits  float64 `json:"bits_per_second"`
		} `json:"sum_received"`
	}
}

// iperf sends bytes over some streams and returns how many and how fast. After each
// run the server listens anew: until then, it can't be reached.
func (s *system) iperf(b testing.TB, seconds int, args ...string) (bytes, bits float64) {
	b.Helper()
	words := append([]string{"-c", s.far.String(), "-p", fmt.Sprint(iperfPort), "-t", fmt.Sprint(seconds), "-J"}, args...)
	var got iperfResult
	testhost.Eventually(b, 10*time.Second, s.name+": iperf3 "+strings.Join(args, " "), func() error {
		out, errs, exit := s.client.Output(b, "load", "iperf3", words...)
		got = iperfResult{}
		if err := json.Unmarshal([]byte(out), &got); err != nil || got.Error != "" || got.End.Received.Bits == 0 {
			return fmt.Errorf("exit %d, %v, %s\n%s", exit, err, got.Error, errs)
		}
		return nil
	})
	return got.End.Received.Bytes, got.End.Received.Bits
}

// call makes connections with a request on each.
func (s *system) call(b testing.TB, address string, number, atOnce int, seconds float64) (got calls) {
	b.Helper()
	out, errs, exit := s.client.Output(b, "load", self(b), "load", "call", address, fmt.Sprint(number), fmt.Sprint(atOnce), fmt.Sprint(seconds))
	if err := json.Unmarshal([]byte(out), &got); err != nil || exit != 0 {
		b.Fatalf("%s: call: exit %d, %v\n%s%s", s.name, exit, err, out, errs)
	}
	return got
}

// complain ends the run where no call succeeded, and mentions those that failed.
func (s *system) complain(b testing.TB, what string, got calls) {
	b.Helper()
	if got.Calls == 0 {
		b.Fatalf("%s: %s: all failed: %s", s.name, what, got.LastError)
	}
	if got.Failed > 0 {
		say("%s: %s: %d of %d failed: %s", s.name, what, got.Failed, got.Failed+got.Calls, got.LastError)
	}
}
