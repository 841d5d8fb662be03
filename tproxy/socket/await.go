// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Await waits in the runtime's poller until the connection that was begun on a
// non-blocking socket is there, and takes the descriptor over: it is the file's, and
// closed where there is an error. Errors: the kernel's, or why ctx ended.
func Await(ctx context.Context, fd int) (*os.File, error) {
	f := os.NewFile(uintptr(fd), "tcp")
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	defer context.AfterFunc(ctx, func() { _ = f.SetWriteDeadline(time.Unix(1, 0)) })()
	var failed error
	err = raw.Write(func(fd uintptr) (done bool) {
		done, failed = connected(int(fd))
		return done
	})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = context.Cause(ctx)
	}
	if err := errors.Join(err, failed); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// connected says whether a connection has been made, or failed.
func connected(fd int) (done bool, err error) {
	if err := Error(fd); err != nil {
		return true, os.NewSyscallError("connect", err)
	}
	_, err = unix.Getpeername(fd)
	if errors.Is(err, unix.ENOTCONN) {
		return false, nil
	}
	return true, os.NewSyscallError("getpeername", err)
}
