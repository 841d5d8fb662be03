// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// usualFS is where most hosts mount a bpffs.
const usualFS = "/sys/fs/bpf"

// ensureFS makes dir in a bpffs. Where there is none it mounts one: on /sys/fs/bpf
// for a folder there, else on dir itself.
func ensureFS(dir string) error {
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return fmt.Errorf("make the folder for pins: %w", err)
	}
	if parent == usualFS && !isBPFFS(parent) {
		if err := mountBPFFS(parent); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the folder for pins: %w", err)
	}
	if isBPFFS(dir) {
		return nil
	}
	return mountBPFFS(dir)
}

func mountBPFFS(dir string) error {
	if err := unix.Mount("bpf", dir, "bpf", 0, "mode=0700"); err != nil {
		return fmt.Errorf("mount bpffs on %s: %w", dir, err)
	}
	return nil
}

func isBPFFS(dir string) bool {
	var fs unix.Statfs_t
	return unix.Statfs(dir, &fs) == nil && uint32(fs.Type) == unix.BPF_FS_MAGIC
}

// removeFS removes an empty dir, and unmounts the bpffs that ensureFS mounted on it.
func removeFS(dir string) error {
	if isBPFFS(dir) && !isBPFFS(filepath.Dir(dir)) {
		if err := unix.Unmount(dir, 0); err != nil {
			return fmt.Errorf("unmount bpffs from %s: %w", dir, err)
		}
	}
	return os.Remove(dir)
}

// netnsCookie returns the cookie of the calling thread's network namespace, the
// same as bpf_get_netns_cookie.
func netnsCookie() (uint64, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("cookie of the network namespace: %w", err)
	}
	defer unix.Close(fd)
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return 0, fmt.Errorf("cookie of the network namespace: %w", err)
	}
	return cookie, nil
}

// The programs keep addresses in network order, IPv4 as ::ffff:a.b.c.d.

func toAddress(a netip.Addr) meshAddress {
	b := a.As16()
	var out meshAddress
	for i := range out.Word {
		out.Word[i] = native(b[4*i : 4*i+4])
	}
	return out
}

func fromAddress(a meshAddress) netip.Addr {
	var b [16]byte
	for i, w := range a.Word {
		putNative(b[4*i:4*i+4], w)
	}
	return netip.AddrFrom16(b).Unmap()
}

func toEndpoint(a netip.AddrPort) meshEndpoint {
	if !a.IsValid() {
		return meshEndpoint{}
	}
	return meshEndpoint{Addr: toAddress(a.Addr()), Port: swap(a.Port())}
}

func fromEndpoint(e meshEndpoint) netip.AddrPort {
	if e.Port == 0 && e.Addr == (meshAddress{}) {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(fromAddress(e.Addr), swap(e.Port))
}

func range4(p netip.Prefix) (base, mask uint32) {
	b := p.Masked().Addr().As4()
	var m [4]byte
	for i := range p.Bits() {
		m[i/8] |= 0x80 >> (i % 8)
	}
	return native(b[:]), native(m[:])
}

func range6(p netip.Prefix) (base, mask meshAddress) {
	if !p.IsValid() {
		return meshAddress{}, meshAddress{}
	}
	var m [16]byte
	for i := range p.Bits() {
		m[i/8] |= 0x80 >> (i % 8)
	}
	return toAddress(p.Masked().Addr()), toAddress(netip.AddrFrom16(m))
}
