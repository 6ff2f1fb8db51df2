package monotime_test

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tenurelock/tenure/leases/monotime"
)

func TestInstant(t *testing.T) {
	for _, c := range []struct {
		at   time.Duration
		want monotime.Seconds
	}{
		{0, 0}, {time.Second - 1, 0}, {time.Second, 1}, {1999 * time.Millisecond, 1}, {1000 * time.Hour, 3600000},
	} {
		if got := monotime.Instant(c.at).Seconds(); got != c.want {
			t.Errorf("%v: %d s, want %d: truncated, not rounded", c.at, got, c.want)
		}
	}
	a := monotime.Instant(5 * time.Second)
	b := a.Add(1500 * time.Millisecond)
	if b.Sub(a) != 1500*time.Millisecond || a.Sub(b) != -1500*time.Millisecond || b.Seconds() != 6 {
		t.Errorf("%v, %v", a, b)
	}
}

// The number on disk is the kernel's: other programs on this host read the same clock.
func TestSystemIsTheKernels(t *testing.T) {
	clock := monotime.System()
	for range 3 {
		var before, after unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &before); err != nil {
			t.Fatal(err)
		}
		got := clock.Now()
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &after); err != nil {
			t.Fatal(err)
		}
		const slack = 50 * time.Millisecond // the two readings that made the clock
		from, to, read := time.Duration(before.Nano()), time.Duration(after.Nano()), time.Duration(got)
		if read < from-slack || read > to+slack {
			t.Errorf("read %v between %v and %v", read, from, to)
		}
		time.Sleep(5 * time.Millisecond)
	}
	if slept := clock.Asleep(); slept < -time.Second {
		t.Errorf("asleep for %v", slept)
	}
	p, err := os.ReadFile("/proc/uptime")
	if err != nil {
		t.Skip("no /proc/uptime")
	}
	up, err := strconv.ParseFloat(strings.Fields(string(p))[0], 64)
	if err != nil {
		t.Fatal(err)
	}
	awake := time.Duration(up*float64(time.Second)) - clock.Asleep()
	if diff := time.Duration(clock.Now()) - awake; diff < -time.Second || diff > time.Second {
		t.Errorf("uptime %v s, clock %v, asleep %v", up, time.Duration(clock.Now()), clock.Asleep())
	}
}

func TestAtIsVirtual(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slept := time.Minute
		clock := monotime.At(monotime.Instant(time.Hour), func() time.Duration { return slept })
		if clock.Now().Seconds() != 3600 || clock.Asleep() != time.Minute {
			t.Errorf("%v, asleep %v", clock.Now(), clock.Asleep())
		}
		time.Sleep(1234 * time.Millisecond)
		slept = time.Hour
		got := clock.Now().Sub(monotime.Instant(time.Hour))
		if got != 1234*time.Millisecond || clock.Asleep() != time.Hour {
			t.Errorf("moved by %v, asleep %v: the clock stands still in suspend", got, clock.Asleep())
		}
		if monotime.At(0, nil).Asleep() != 0 {
			t.Error("a clock that never sleeps has slept")
		}
	})
}

// A process that is stopped reads the clock when it goes on, and then what it says by then.
func TestGated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open := make(chan struct{})
		clock := monotime.At(0, nil)
		read := make(chan monotime.Instant, 1)
		go func() { read <- clock.Gated(func() { <-open }).Now() }()
		time.Sleep(time.Minute)
		if len(read) != 0 || clock.Now() != monotime.Instant(time.Minute) {
			t.Errorf("%d readings by a process that is stopped; others read %v", len(read), clock.Now())
		}
		close(open)
		if got := <-read; got != monotime.Instant(time.Minute) {
			t.Errorf("read %v", got)
		}
	})
}
