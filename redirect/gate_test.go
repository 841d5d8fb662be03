// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestGate closes and opens the way to listeners by a pinned program, with both backends, and looks for drift while the
// pin is there and when it isn't.
func TestGate(t *testing.T) {
	for _, backend := range []string{"nft", "legacy"} {
		t.Run(backend, func(t *testing.T) {
			useBackend(t, backend)
			enter(t)
			there := newElsewhere(t)
			there.join(t)
			listeners, dns4, dns6 := listenAll(t)
			c := everything()
			c.Port4, c.Port6 = listeners.Ports()
			c.DNSPort4, c.DNSPort6 = dns4.Port(), dns6.Port()
			var set func(open bool)
			c.Alive, set = gate(t)
			plan := NewPlan(c)
			must(t, Apply(plan))
			if lines, err := Drift(plan); err != nil || len(lines) > 0 {
				t.Errorf("drift = %q, %v", lines, err)
			}

			closed := func() {
				t.Helper()
				for _, addr := range []string{"240.64.0.9:5432", "[fd7a:ac17::9]:5432"} {
					if err := there.dial(addr, patience); !errors.Is(err, unix.ECONNREFUSED) {
						t.Errorf("closed: dial %s = %v", addr, err)
					}
				}
			}
			closed()
			set(true)
			captured(t, there, listeners.TCP4, "240.64.0.9:5432")
			captured(t, there, listeners.TCP6, "[fd7a:ac17::9]:5432")
			answered(t, there, dns4.UDP, "10.99.0.53:53")
			captured(t, there, dns6.TCP, "[fd00:99::53]:53")
			set(false)
			closed()

			// A rule keeps its program when the pin goes, and is still known for ours.
			must(t, os.Rename(c.Alive, c.Alive+"2"))
			if lines, err := Drift(plan); err != nil || len(lines) > 0 {
				t.Errorf("without the pin: drift = %q, %v", lines, err)
			}
			must(t, os.Rename(c.Alive+"2", c.Alive))

			// Without the gate, what has no listener is dropped.
			ungated := with(func(u *Config) { u.Port4, u.Port6 = c.Port4+1, c.Port6+1 })
			must(t, Apply(NewPlan(ungated)))
			var timeout net.Error
			if err := there.dial("240.64.0.9:5432", time.Second); !errors.As(err, &timeout) || !timeout.Timeout() {
				t.Errorf("without gate and listener: dial = %v", err)
			}
			must(t, Cleanup())
		})
	}
}

// TestKernelGolden compares what the kernel holds after Apply with files, for both backends.
func TestKernelGolden(t *testing.T) {
	for _, backend := range []string{"nft", "legacy"} {
		for name, c := range map[string]Config{
			"full":     everything(),
			"v4":       with(func(c *Config) { c.IPv6 = false }),
			"excluded": with(exclusions),
			"own":      with(own),
			"gated":    with(func(c *Config) { c.Alive = "PIN" }),
		} {
			t.Run(name+"/"+backend, func(t *testing.T) {
				useBackend(t, backend)
				enter(t)
				if c.Alive != "" {
					c.Alive, _ = gate(t)
				}
				plan := NewPlan(c)
				must(t, Apply(plan))
				got := shell(t, "ip -4 rule show proto 116; ip -6 rule show proto 116; ip -4 route show table all proto 116;"+
					"ip -6 route show table all proto 116") + tablesHeld(t)
				if c.Alive != "" {
					got = strings.ReplaceAll(got, c.Alive, "PIN")
				}
				golden(t, "kernel-"+name, got) // one file: the backends must not differ
				if lines, err := Drift(plan); err != nil || len(lines) > 0 {
					t.Errorf("drift = %q, %v", lines, err)
				}
				// Every rule is printed as we wrote it: no version-dependent question is needed.
				for _, c := range plan.chains {
					table, err := kernelHost{}.tables(c.v6)
					must(t, err)
					have, _, err := table.rules(c.table, c.name())
					must(t, err)
					for i, spec := range c.specs {
						if i >= len(have) || have[i] != printed(spec) {
							t.Errorf("rule %d of %s %s isn't printed as %q", i, c.table, c.name(), spec)
						}
					}
				}
			})
		}
	}
}

// gate pins a program that returns what a map says, closed at first.
func gate(t *testing.T) (path string, set func(open bool)) {
	t.Helper()
	dir := t.TempDir()
	must(t, unix.Mount("bpf", dir, "bpf", 0, "mode=0700"))
	t.Cleanup(func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	array, err := bpf(unix.BPF_MAP_CREATE, struct{ kind, key, value, entries uint32 }{unix.BPF_MAP_TYPE_ARRAY, 4, 4, 1})
	must(t, err)
	t.Cleanup(func() { must(t, unix.Close(array)) })
	code := instructions(
		[4]int{0x7a, 10, -8, 0},          // *(u64 *)(r10 - 8) = 0
		[4]int{0xbf, 10<<4 | 2, 0, 0},    // r2 = r10
		[4]int{0x07, 2, 0, -8},           // r2 += -8
		[4]int{0x18, 1<<4 | 1, 0, array}, // r1 = the map, in two
		[4]int{},
		[4]int{0x85, 0, 0, 1}, // call map_lookup_elem
		[4]int{0x15, 0, 1, 0}, // if r0 == 0 skip one
		[4]int{0x61, 0, 0, 0}, // r0 = *(u32 *)r0
		[4]int{0x95, 0, 0, 0}, // exit
	)
	license := []byte("GPL\x00")
	program, err := bpf(unix.BPF_PROG_LOAD, struct {
		kind, count   uint32
		code, license uint64
		rest          [32]uint32
	}{kind: unix.BPF_PROG_TYPE_SOCKET_FILTER, count: uint32(len(code) / 8), code: address64(t, code), license: address64(t, license)})
	must(t, err)
	defer func() { must(t, unix.Close(program)) }()
	path = filepath.Join(dir, "alive")
	name := append([]byte(path), 0)
	_, err = bpf(unix.BPF_OBJ_PIN, struct {
		path     uint64
		fd, flag uint32
	}{address64(t, name), uint32(program), 0})
	must(t, err)
	return path, func(open bool) {
		t.Helper()
		key, value := make([]byte, 4), make([]byte, 4)
		if open {
			value[0] = 1
		}
		_, err := bpf(unix.BPF_MAP_UPDATE_ELEM, struct {
			fd, pad           uint32
			key, value, flags uint64
		}{uint32(array), 0, address64(t, key), address64(t, value), 0})
		must(t, err)
	}
}

// instructions encodes {code, registers, offset, immediate}.
func instructions(list ...[4]int) []byte {
	var out []byte
	for _, i := range list {
		out = append(out, byte(i[0]), byte(i[1]))
		out = binary.NativeEndian.AppendUint16(out, uint16(i[2]))
		out = binary.NativeEndian.AppendUint32(out, uint32(i[3]))
	}
	return out
}

// bpf is bpf(2).
func bpf[A any](command uintptr, attr A) (int, error) {
	n, _, errno := unix.Syscall(unix.SYS_BPF, command, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	if errno != 0 {
		return -1, fmt.Errorf("bpf command %d: %w", command, errno)
	}
	return int(n), nil
}

// address64 is where b is, on the heap: a stack may move.
func address64(t *testing.T, b []byte) uint64 {
	var pin runtime.Pinner
	pin.Pin(&b[0])
	t.Cleanup(pin.Unpin)
	return uint64(uintptr(unsafe.Pointer(&b[0])))
}
