package conntrack

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// HZ returns how many jiffies the kernel counts a second: one for each tick of
// the coarse clock.
func HZ() (uint32, error) {
	var tick unix.Timespec
	if err := unix.ClockGetres(unix.CLOCK_MONOTONIC_COARSE, &tick); err != nil {
		return 0, fmt.Errorf("read the length of a jiffy: %w", err)
	}
	ns := tick.Nano()
	if ns <= 0 || ns > int64(time.Second) {
		return 0, fmt.Errorf("read the length of a jiffy: the kernel says %d ns", ns)
	}
	return uint32((int64(time.Second) + ns/2) / ns), nil
}

// clock turns jiffies, which wrap around, into durations.
type clock struct {
	now uint32
	hz  uint32
}

// since returns the jiffies from then to now. A moment in the future is now:
// jiffies are read and written on several CPUs.
func (c clock) since(then uint32) uint32 {
	age := c.now - then
	if age > -c.hz {
		return 0
	}
	return age
}

func (c clock) duration(jiffies int64) time.Duration {
	if c.hz == 0 {
		return 0
	}
	seconds, rest := jiffies/int64(c.hz), jiffies%int64(c.hz)
	return time.Duration(seconds)*time.Second + time.Duration(rest)*time.Second/time.Duration(c.hz)
}
