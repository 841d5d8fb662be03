// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// echoCalls makes a connection every interval until the time is over, each with one
// question, and prints how many were not answered and how long the slowest took.
func echoCalls(addr string, milliseconds, seconds int64) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var made, failed int
	var slowest time.Duration
	tick := time.NewTicker(time.Duration(milliseconds) * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Duration(seconds) * time.Second); time.Now().Before(end); <-tick.C {
		wg.Go(func() {
			began := time.Now()
			err := echoCall(addr)
			took := time.Since(began)
			mu.Lock()
			defer mu.Unlock()
			made++
			slowest = max(slowest, took)
			if err != nil {
				failed++
				fmt.Printf("call after %v: %v\n", took.Round(time.Millisecond), err)
			}
		})
	}
	wg.Wait()
	fmt.Printf("calls=%d failed=%d slowest=%dms\n", made, failed, slowest.Milliseconds())
	return nil
}

// echoCall expects what it sends to come back.
func echoCall(addr string) error {
	c, err := conn(addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(15 * time.Second)); err != nil {
		return err
	}
	const question = "anybody there?"
	if _, err := io.WriteString(c, question); err != nil {
		return named("write", err)
	}
	answer := make([]byte, len(question))
	if _, err := io.ReadFull(c, answer); err != nil {
		return named("read", err)
	}
	if string(answer) != question {
		return fmt.Errorf("answer %q", answer)
	}
	return nil
}
