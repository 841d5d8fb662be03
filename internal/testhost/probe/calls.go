// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// callLimit is when a call counts as one that hangs.
const callLimit = 10 * time.Second

// calls gets a page over HTTP/1.0 from a name, RATE times a second, however long
// the calls take, until SIGTERM. A call is a look-up, a connection to the first
// IPv4 address, a request and its answer; it isn't tried again. Each ends in a line
// "NUMBER STARTED TOOK RESULT": microseconds, since 1970 and of duration. RESULT is
// "ok BODY", or the step that failed, its error, and the bytes that had come.
// The path is /LABEL.NUMBER. The last line is "end NUMBERS".
func calls(addr string, rate int64, label string) error {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer stop()
	lines := make(chan string, 1024)
	var wg sync.WaitGroup
	n := 0
	go func() {
		for began := time.Now(); ctx.Err() == nil; {
			select {
			case <-ctx.Done():
			case <-time.After(time.Until(began.Add(time.Duration(n+1) * time.Second / time.Duration(rate)))):
				n++
				number := n
				wg.Go(func() { lines <- timed(addr, label, number) })
			}
		}
		wg.Wait()
		close(lines)
	}()
	out := bufio.NewWriter(os.Stdout)
	for line := range lines {
		fmt.Fprintln(out, line)
		if len(lines) == 0 {
			out.Flush()
		}
	}
	fmt.Fprintln(out, "end", n)
	return out.Flush()
}

func timed(addr, label string, number int) string {
	began := time.Now()
	body, err := getPage(addr, fmt.Sprintf("/%s.%d", label, number))
	took := time.Since(began)
	result := "ok " + body
	if err != nil {
		result = strings.ReplaceAll(err.Error(), "\n", " ")
	}
	return fmt.Sprintf("%d %d %d %s", number, began.UnixMicro(), took.Microseconds(), result)
}

func getPage(addr, path string) (body string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", err
	}
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip4", host)
	if err != nil {
		return "", named("lookup", err)
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp4", net.JoinHostPort(found[0].Unmap().String(), port))
	if err != nil {
		return "", named("connect", err)
	}
	defer c.Close()
	end, _ := ctx.Deadline()
	if err := c.SetDeadline(end); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.0\r\nHost: %s\r\n\r\n", path, host); err != nil {
		return "", named("write", err)
	}
	answer, err := io.ReadAll(c)
	if err != nil {
		return "", fmt.Errorf("%w after %d bytes", named("read", err), len(answer))
	}
	head, body, whole := strings.Cut(string(answer), "\r\n\r\n")
	if !whole || !strings.Contains(head, " 200 ") {
		return "", fmt.Errorf("answer: %q of %d bytes", head, len(answer))
	}
	return strings.TrimSpace(body), nil
}
