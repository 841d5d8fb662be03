// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
)

// serve accepts connections for ever; it prints "listening on …" first.
func serve(addr string, handle func(*net.TCPConn) error) error {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return named("listen", err)
	}
	fmt.Println("listening on", ln.Addr())
	for {
		c, err := ln.Accept()
		if err != nil {
			return named("accept", err)
		}
		go func() {
			defer c.Close()
			if err := handle(c.(*net.TCPConn)); err != nil {
				fmt.Printf("peer=%s: %v\n", c.RemoteAddr(), err)
			}
		}()
	}
}

func listen(addr, banner string) error {
	return serve(addr, func(c *net.TCPConn) error {
		fmt.Printf("accepted local=%s peer=%s\n", c.LocalAddr(), c.RemoteAddr())
		if _, err := io.WriteString(c, banner); err != nil {
			return named("write", err)
		}
		if _, err := io.Copy(c, c); err != nil {
			return named("echo", err)
		}
		return c.CloseWrite()
	})
}

func duplexListen(addr string, size int64) error {
	return serve(addr, func(c *net.TCPConn) error { return exchange(c, size) })
}

// duplex makes all connections at once and prints "ok N" when each end got
// what the other sent, on every one.
func duplex(addr string, size int64, connections int) error {
	results := make(chan error, connections)
	for range connections {
		go func() {
			c, err := conn(addr)
			if err == nil {
				err = exchange(c, size)
				c.Close()
			}
			results <- err
		}()
	}
	var errs []error
	for range connections {
		if err := <-results; err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("%d of %d failed: %w", len(errs), connections, errors.Join(errs...))
	}
	fmt.Println("ok", connections)
	return nil
}

// exchange sends random bytes and their digest while it reads the other end's,
// then sends one byte that says whether the digest was right, and half-closes.
func exchange(c *net.TCPConn, size int64) error {
	sent := make(chan error, 1)
	go func() {
		sum := sha256.New()
		_, err := io.CopyN(io.MultiWriter(c, sum), rand.Reader, size)
		if err == nil {
			_, err = c.Write(sum.Sum(nil))
		}
		sent <- err
	}()
	wrong := receive(c, size)
	if err := <-sent; err != nil {
		return named("send", err)
	}
	verdict := []byte{'y'}
	if wrong != nil {
		verdict[0] = 'n'
	}
	if _, err := c.Write(verdict); err != nil {
		return named("send", err)
	}
	if err := c.CloseWrite(); err != nil {
		return named("shutdown", err)
	}
	rest, err := io.ReadAll(c)
	if wrong == nil && (err != nil || string(rest) != "y") {
		wrong = fmt.Errorf("the other end says %q, %v", rest, err)
	}
	return wrong
}

func receive(r io.Reader, size int64) error {
	sum := sha256.New()
	if n, err := io.CopyN(sum, r, size); err != nil {
		return fmt.Errorf("after %d of %d bytes: %w", n, size, named("receive", err))
	}
	digest := make([]byte, sha256.Size)
	if _, err := io.ReadFull(r, digest); err != nil {
		return fmt.Errorf("digest: %w", err)
	}
	if !bytes.Equal(digest, sum.Sum(nil)) {
		return errors.New("bytes differ from those that were sent")
	}
	return nil
}
