// SPDX-License-Identifier: Apache-2.0

// load flood SERVER RATE SECONDS NAME…, or load measure SERVER COUNT NAME…
// flood sends so many queries a second, from up to 64 sockets, and reads no answer.
// measure asks again and again, each time from a new socket, and prints how long
// the answers take, and how many are failures or don't come in a second.
package main

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

func query(id uint16, name string) []byte {
	q := []byte{byte(id >> 8), byte(id), 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}
	for label := range strings.SplitSeq(name, ".") {
		q = append(append(q, byte(len(label))), label...)
	}
	return append(q, 0, 0, 1, 0, 1)
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	server, names := os.Args[2], os.Args[4:]
	n, err := strconv.Atoi(os.Args[3])
	must(err)
	if os.Args[1] == "measure" {
		measure(server, n, names)
		return
	}
	seconds, err := strconv.Atoi(os.Args[4])
	must(err)
	flood(server, n, time.Duration(seconds)*time.Second, os.Args[5:])
}

func flood(server string, rate int, length time.Duration, names []string) {
	var socks []net.Conn
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	sent, begin := 0, time.Now()
	for time.Since(begin) < length {
		for due := int(time.Since(begin).Seconds() * float64(rate)); sent < due; sent++ {
			if k := sent % 64; k < len(socks) {
				if sent%1024 == k { // a new socket now and then
					socks[k].Close()
					c, err := net.Dial("udp", server)
					must(err)
					socks[k] = c
				}
			} else {
				c, err := net.Dial("udp", server)
				must(err)
				socks = append(socks, c)
			}
			_, _ = socks[sent%64].Write(query(uint16(sent), names[sent%len(names)]))
		}
		<-tick.C
	}
	fmt.Printf("sent %d a second\n", int(float64(sent)/time.Since(begin).Seconds()))
}

func measure(server string, count int, names []string) {
	var took []time.Duration
	lost, failed := 0, 0
	buf := make([]byte, 1500)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for i := range count {
		begin := time.Now()
		c, err := net.Dial("udp", server)
		must(err)
		_ = c.SetDeadline(begin.Add(time.Second))
		_, _ = c.Write(query(uint16(i), names[i%len(names)]))
		if _, err := c.Read(buf); err != nil {
			lost++
		} else if buf[3]&15 != 0 {
			failed++
		}
		c.Close()
		took = append(took, time.Since(begin))
		<-tick.C
	}
	slices.Sort(took)
	fmt.Printf("p50 %d µs, p99 %d µs, max %d µs, lost %d, failed %d\n", took[count/2].Microseconds(), took[count*99/100].Microseconds(),
		took[count-1].Microseconds(), lost, failed)
}
