// SPDX-License-Identifier: Apache-2.0

// Command probe connects and accepts in ways that no stock tool offers, and prints
// what the kernel answered. Tests run it on test hosts. It must not know anything
// of tacit.
package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

const usage = `usage:
  probe connect [plain|nonblock|fastopen] ADDR   connect, print errno or names, end
  probe ask ADDR TEXT          connect, send TEXT and end of file, print the answer
  probe udp ADDR TEXT          send a datagram from an unconnected socket
  probe listen ADDR [BANNER]   print each peer; send BANNER, then echo
  probe streams-listen ADDR               the other end of streams; SIGUSR1 resets all connections
  probe streams ADDR COUNT OPERATION ...  do an operation (operations.go) on COUNT connections at once, print what came of them
  probe calls NAME:PORT RATE LABEL        GET /LABEL.NUMBER, RATE times a second, a line for each, until SIGTERM
  probe echo-calls ADDR MS SECONDS        a connection every MS milliseconds, for SECONDS; print how many failed and the slowest
  probe pace-listen ADDR                  the other end of pace
  probe pace ADDR SECONDS                 calls a second on one connection, and the median of connect(2) in ns
  probe flood ADDR COUNT IP,…             hold COUNT connections from these addresses that are slow or silent
ADDR is 10.0.0.1:80, [::1]:80 or [::ffff:10.0.0.1]:80 (an IPv6 socket to a mapped address)`

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func run(args []string) error {
	args = append(args, "", "", "", "")
	switch args[0] {
	case "connect":
		if args[2] == "" {
			return connect("plain", args[1])
		}
		return connect(args[1], args[2])
	case "ask":
		return ask(args[1], args[2])
	case "udp":
		return sendUDP(args[1], args[2])
	case "listen":
		return listen(args[1], args[2])
	case "calls":
		return calls(args[1], number(args[2]), args[3])
	case "streams-listen":
		return streamsListen(args[1])
	case "streams":
		return streams(args[1], int(number(args[2])), strings.Fields(strings.Join(args[3:], " ")))
	case "pace-listen":
		return paceListen(args[1])
	case "pace":
		return pace(args[1], number(args[2]))
	case "flood":
		return flood(args[1], number(args[2]), strings.Split(args[3], ","))
	case "echo-calls":
		return echoCalls(args[1], number(args[2]), number(args[3]))
	}
	return fmt.Errorf("%s", usage)
}

func number(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 1 {
		fmt.Println(usage)
		os.Exit(2)
	}
	return n
}
