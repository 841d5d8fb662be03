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

type halfCloser interface {
	io.ReadWriter
	CloseWrite() error
}

// exchange sends random bytes and their digest while it reads the other end's,
// then sends one byte that says whether the digest was right, and half-closes.
func exchange(c halfCloser, size int64) error {
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
		return fmt.Errorf("send: %w", err)
	}
	verdict := []byte{'y'}
	if wrong != nil {
		verdict[0] = 'n'
	}
	if _, err := c.Write(verdict); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	if err := c.CloseWrite(); err != nil {
		return fmt.Errorf("shutdown: %w", err)
	}
	rest, err := io.ReadAll(c)
	switch {
	case wrong != nil:
	case err != nil:
		wrong = fmt.Errorf("the other end says %q: %w", rest, err)
	case string(rest) != "y":
		wrong = fmt.Errorf("the other end says %q", rest)
	}
	return wrong
}

func receive(r io.Reader, size int64) error {
	sum := sha256.New()
	if n, err := io.CopyN(sum, r, size); err != nil {
		return fmt.Errorf("after %d of %d bytes: %w", n, size, err)
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
