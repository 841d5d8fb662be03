// SPDX-License-Identifier: Apache-2.0

package api

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// Group is the group whose members may use the socket besides root.
const Group = "tacit"

// ErrInUse means that another daemon answers on the socket.
var ErrInUse = errors.New("another tacitd answers on it; stop that one first")

// Listen creates the socket, with mode 0660 for root and Group if that group exists,
// else 0600. It replaces a socket on which no process listens. Closing the
// listener removes the socket. It returns ErrInUse, or an error if path is not a
// socket.
func Listen(path string) (net.Listener, error) {
	if err := removeStale(path); err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	return Replace(path)
}

// Replace is Listen in place of a socket on which another process may listen, which
// keeps the connections that it has.
func Replace(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	ln, err := listenPrivate(path)
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	if gid := groupID(); gid >= 0 {
		if err := errors.Join(os.Chown(path, 0, gid), os.Chmod(path, 0o660)); err != nil {
			return nil, errors.Join(fmt.Errorf("socket %s: %w", path, err), ln.Close())
		}
	}
	return ln, nil
}

// Remove removes the socket at path, and what a killed Listen left behind. A missing
// socket is no error.
func Remove(path string) error {
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, os.RemoveAll(staging(path)))
}

// staging is the folder in which the socket is created. Its name is fixed, so that
// leftovers are found.
func staging(path string) string { return path + ".new" }

// listenPrivate binds in a private folder and moves the socket to path when its mode
// is 0600: between bind and chmod, every user whom the umask permits could connect.
func listenPrivate(path string) (net.Listener, error) {
	dir := staging(path)
	if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700)); err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	inside := filepath.Join(dir, "s")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: inside, Net: "unix"})
	if err != nil {
		return nil, err
	}
	ln.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(inside, 0o600), os.Rename(inside, path)); err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	file, err := os.Lstat(path)
	if err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	return &listener{UnixListener: ln, path: path, file: file, allow: allowed(groupID())}, nil
}

func removeStale(path string) error {
	st, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.Mode().Type() != fs.ModeSocket {
		return errors.New("exists and is not a socket; remove it")
	}
	c, err := net.Dial("unix", path)
	if err == nil {
		_ = c.Close()
		return ErrInUse
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		return err
	}
	return os.Remove(path)
}

// groupID returns the ID of Group, or -1 if there is no such group.
func groupID() int {
	g, err := user.LookupGroup(Group)
	if err != nil {
		return -1
	}
	gid, err := strconv.Atoi(g.Gid)
	if err != nil {
		return -1
	}
	return gid
}
