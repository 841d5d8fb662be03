// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"tacit/node/config"
)

// deadlineFile is there while a start waits to be confirmed. Its content is the
// deadline's mark; whoever confirms removes it.
func deadlineFile(p config.Paths) string { return filepath.Join(p.RunDir, "unconfirmed") }

// newMark returns what tells one deadline from every other: the boot's id, the
// end in nanoseconds of boot time, and the daemon's process number.
func newMark(boot string, end time.Duration, pid int) string {
	return fmt.Sprintf("%s %d %d\n", boot, end, pid)
}

// endOf reads the end from a mark, by boot time; 0 where the mark is of another
// boot, or is none.
func endOf(mark, boot string) time.Duration {
	var of string
	var end time.Duration
	if n, _ := fmt.Sscanf(mark, "%s %d", &of, &end); n != 2 || of != boot {
		return 0
	}
	return end
}

// bootTime is the time since boot, suspend included. Nobody can set this clock.
func bootTime() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) != nil {
		return 0 // impossible: every kernel that loads the programs has this clock
	}
	return time.Duration(ts.Nano())
}

func bootID() string {
	text, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(text))
}

// writeWhole makes a file appear with its whole content.
func writeWhole(path, text string) error {
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
