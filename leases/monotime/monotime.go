// Package monotime gives the one clock that leases are measured on, as the number that goes on disk.
//
// The clock is CLOCK_MONOTONIC: it starts at boot and stands still while the machine is suspended. Only its
// change carries information for other hosts (spec ondisk 2.8). Everything else in the project that needs
// to wait uses package time, whose monotonic reading is the same clock, so that a synctest bubble moves both.
package monotime

import (
	"time"

	"golang.org/x/sys/unix"
)

// Seconds is a reading in whole seconds, truncated: what goes on disk and to wdmd.
type Seconds uint64

// Instant is a reading as the time since the clock's zero.
type Instant time.Duration

// Seconds truncates to whole seconds.
func (i Instant) Seconds() Seconds { return Seconds(time.Duration(i) / time.Second) }

// Add returns i moved by d.
func (i Instant) Add(d time.Duration) Instant { return i + Instant(d) }

// Sub returns the time from o to i.
func (i Instant) Sub(o Instant) time.Duration { return time.Duration(i - o) }

// Clock reads the time. The zero Clock is not usable; take System or At.
type Clock struct {
	base  Instant
	start time.Time
	// asleep reports how long the machine has been suspended since boot.
	asleep func() time.Duration
	// gate, if not nil, returns when who reads the clock may run.
	gate func()
}

// System returns the kernel's clock. It panics if the kernel has no CLOCK_MONOTONIC: no lease can be kept
// on such a machine.
func System() Clock {
	return Clock{base: Instant(kernel(unix.CLOCK_MONOTONIC)), start: time.Now(), asleep: func() time.Duration {
		return kernel(unix.CLOCK_BOOTTIME) - kernel(unix.CLOCK_MONOTONIC)
	}}
}

// At returns a clock that reads base now and moves with package time: virtual inside a synctest bubble.
// asleep, if not nil, stands for the time that the machine has been suspended.
func At(base Instant, asleep func() time.Duration) Clock {
	if asleep == nil {
		asleep = func() time.Duration { return 0 }
	}
	return Clock{base: base, start: time.Now(), asleep: asleep}
}

// Gated returns the same clock for a process that can be stopped: nobody reads it before gate returns, as a program
// that does not run learns nothing of the time that passes.
func (c Clock) Gated(gate func()) Clock {
	c.gate = gate
	return c
}

// Now reads the clock.
func (c Clock) Now() Instant {
	if c.gate != nil {
		c.gate()
	}
	return c.base + Instant(time.Since(c.start))
}

// Asleep returns how long the machine has been suspended since boot, that is CLOCK_BOOTTIME less
// CLOCK_MONOTONIC. A growth between two readings means that time passed which Now did not count.
func (c Clock) Asleep() time.Duration { return c.asleep() }

func kernel(id int32) time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(id, &ts); err != nil {
		panic("monotime: clock_gettime: " + err.Error())
	}
	return time.Duration(ts.Nano())
}
