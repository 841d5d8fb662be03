// SPDX-License-Identifier: Apache-2.0

package testhost

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Cable is what a bad cable does to the frames of a host, both ways. It loses or
// delays single frames; whoever sent them isn't told.
type Cable struct {
	Delay   time.Duration // of every frame
	Loss    float64       // share of the frames that are lost
	Reorder float64       // share of the frames that are overtaken by those behind them
	MTU     int           // larger packets are lost; 0: none is
}

const (
	overtaken  = 5 * time.Millisecond // how much later such a frame arrives
	cableRoom  = 4096                 // frames in a cable, each way
	frameBytes = 1 << 16
	etherBytes = 14 // before the packet
)

// Plug joins the host to the switch again, after Unplug.
func (h *Host) Plug(t testing.TB) { h.link(t, "up") }

// Unplug takes the switch's end of the host's cable down.
func (h *Host) Unplug(t testing.TB) { h.link(t, "down") }

func (h *Host) link(t testing.TB, state string) {
	t.Helper()
	Must(t, batch(h.net.key.namespace("switch"), []string{"link set " + h.port() + " " + state}))
}

// port is the switch's end of the host's cable.
func (h *Host) port() string { return fmt.Sprintf("port%d", h.Addr.As4()[3]) }

// Replace puts a bad cable between the host and the switch until restore is
// called: it moves the host to a bridge of its own, and carries frames between the
// two bridges in this process.
func (h *Host) Replace(t testing.TB, c Cable) (restore func()) {
	t.Helper()
	sw, i := h.net.key.namespace("switch"), h.Addr.As4()[3]
	far := fmt.Sprintf("far%d", i)
	taps := []string{fmt.Sprintf("near-tap%d", i), fmt.Sprintf("far-tap%d", i)}
	var files []*os.File
	for _, name := range taps {
		var tap *os.File
		Must(t, inside(nsPath(sw), func() (err error) { tap, err = openTAP(name); return err }))
		files = append(files, tap)
	}
	Must(t, batch(sw, []string{
		"link add " + far + " type bridge", "link set " + far + " up",
		"link set " + taps[0] + " master br0 up", "link set " + taps[1] + " master " + far + " up",
		"link set " + h.port() + " master " + far,
	}))
	done := make(chan struct{}, 2)
	for way := range files {
		go func() {
			defer func() { done <- struct{}{} }()
			c.carry(files[way], files[1-way], rand.New(rand.NewPCG(uint64(way), 1)))
		}()
	}
	return func() {
		Must(t, batch(sw, []string{"link set " + h.port() + " master br0", "link del " + far}))
		for _, f := range files {
			f.Close() // which removes the TAP device, too
		}
		<-done
		<-done
	}
}

// openTAP makes a TAP device in the current namespace. Without offloads, the
// kernel hands over frames of the MTU's size, with checksums.
func openTAP(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/net/tun: %w", err)
	}
	request, err := unix.NewIfreq(name)
	if err != nil {
		return nil, err
	}
	request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("TAP device %s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// carry passes frames on until one of the ends is closed.
func (c Cable) carry(from, to *os.File, chance *rand.Rand) {
	type frame struct {
		due   time.Time
		bytes []byte
	}
	way := make(chan frame, cableRoom)
	defer close(way)
	go func() {
		for f := range way {
			if early := time.Until(f.due); early > 0 {
				<-time.After(early)
			}
			_, _ = to.Write(f.bytes)
		}
	}()
	buf := make([]byte, frameBytes)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		if c.MTU > 0 && n > c.MTU+etherBytes || chance.Float64() < c.Loss {
			continue
		}
		f := frame{time.Now().Add(c.Delay), append([]byte(nil), buf[:n]...)}
		if chance.Float64() < c.Reorder {
			time.AfterFunc(c.Delay+overtaken, func() { _, _ = to.Write(f.bytes) })
			continue
		}
		select {
		case way <- f:
		default: // full, as a queue may be
		}
	}
}
