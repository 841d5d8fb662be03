// SPDX-License-Identifier: Apache-2.0

package soak

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
)

// serve listens on every address. A connection begins with a line,
// "CANARY.ID NAME PORT END"; the server prints "ID NAME PORT END PEER" and answers
// ok. END says who closes first: "s" is the server.
func serve(addrs []string) error {
	lines := make(chan string, 1024)
	for _, addr := range addrs {
		var lc net.ListenConfig
		lc.SetMultipathTCP(false)
		ln, err := lc.Listen(context.Background(), "tcp", addr)
		if err != nil {
			return err
		}
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				go attend(c, lines)
			}
		}()
	}
	fmt.Println("listening")
	out := bufio.NewWriter(os.Stdout)
	for line := range lines {
		fmt.Fprintln(out, line)
		if len(lines) == 0 {
			out.Flush()
		}
	}
	return nil
}

func attend(c net.Conn, lines chan<- string) {
	defer c.Close()
	in := bufio.NewReaderSize(c, 256)
	line, err := in.ReadString('\n')
	if err != nil {
		lines <- fmt.Sprintf("silent - - - %s", c.RemoteAddr())
		return
	}
	line = strings.TrimPrefix(strings.TrimSpace(line), canary)
	lines <- line + " " + c.RemoteAddr().String()
	_, _ = c.Write([]byte("ok\n"))
	if !strings.HasSuffix(line, " s") {
		_, _ = in.ReadByte()
	}
}

// served is one line of a server.
type served struct{ id, name, port, peer string }

// servedBy parses a server's output.
func servedBy(text string) []served {
	var out []served
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) == 5 {
			out = append(out, served{f[0], f[1], f[2], f[4]})
		}
	}
	return out
}

func TestServedBy(t *testing.T) {
	got := servedBy("listening\n7.1 web 4000 s 127.0.0.1:99\n7.2 web 40")
	if len(got) != 1 || got[0] != (served{"7.1", "web", "4000", "127.0.0.1:99"}) {
		t.Errorf("%+v", got)
	}
}
