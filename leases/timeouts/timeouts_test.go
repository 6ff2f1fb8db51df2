package timeouts_test

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tenurelock/tenure/leases/timeouts"
)

// The table of spec ondisk 3.8, in seconds.
func TestLadder(t *testing.T) {
	quantities := []struct {
		name string
		of   func(timeouts.Set) time.Duration
		want [4]int // for io_timeout 2, 5, 10, 30
	}{
		{"one I/O", timeouts.Set.OneIO, [4]int{2, 5, 10, 30}},
		{"short delay", timeouts.Set.ShortDelay, [4]int{4, 10, 20, 60}},
		{"renewal", timeouts.Set.Renewal, [4]int{4, 10, 20, 60}},
		{"renewal write", timeouts.Set.RenewalWrite, [4]int{76, 100, 140, 300}},
		{"renewal warn", timeouts.Set.RenewalWarn, [4]int{12, 30, 60, 180}},
		{"renewal fail", timeouts.Set.RenewalFail, [4]int{16, 40, 80, 240}},
		{"kill from", timeouts.Set.KillFrom, [4]int{56, 80, 120, 280}},
		{"host fail", timeouts.Set.HostFail, [4]int{16, 40, 80, 240}},
		{"host dead", timeouts.Set.HostDead, [4]int{76, 100, 140, 300}},
		{"bitmap hold", timeouts.Set.BitmapHold, [4]int{12, 30, 60, 180}},
		{"join over the dead", joinOverDead, [4]int{80, 110, 160, 360}},
	}
	for _, q := range quantities {
		for i, d := range []uint32{2, 5, 10, 30} {
			got := q.of(timeouts.Set{IO: d, Fire: timeouts.DefaultFire})
			if want := time.Duration(q.want[i]) * time.Second; got != want {
				t.Errorf("%s for %d: %v, want %v", q.name, d, got, want)
			}
		}
	}
}

func joinOverDead(s timeouts.Set) time.Duration { return s.HostDead() + s.ShortDelay() }

func TestOf(t *testing.T) {
	for _, c := range []struct{ disk, fallback, want uint32 }{
		{0, 10, 10}, {2, 10, 2}, {10, 2, 10}, {255, 10, 255}, {0, 256, 256}, {65535, 10, 65535},
	} {
		if got := timeouts.Of(c.disk, c.fallback, 60); got != (timeouts.Set{IO: c.want, Fire: 60}) {
			t.Errorf("%d on disk, fallback %d: %+v", c.disk, c.fallback, got)
		}
	}
}

// What must hold between the intervals of one host, and of two that differ, or a lease has two owners.
func TestOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) timeouts.Set {
			return timeouts.Set{
				IO: rapid.Uint32Range(1, 65535).Draw(t, name), Fire: rapid.Uint32Range(0, 3600).Draw(t, "fire"),
			}
		}
		s := draw("io_timeout")
		fire := time.Duration(s.Fire) * time.Second
		for _, c := range []struct {
			what        string
			first, then time.Duration
		}{
			{"a failed renewal can be tried again before the warning", s.Renewal() + 2*s.OneIO(), s.RenewalWarn()},
			{"the warning comes before the failure", s.RenewalWarn(), s.RenewalFail()},
			{"we give up before others call us failing", s.RenewalFail(), s.HostFail()},
			{"others wait until our watchdog has fired", s.RenewalFail() + fire, s.HostDead()},
			{"our write may take as long as it can matter", s.RenewalWrite(), s.HostDead()},
			{"holders are told before they are killed", s.RenewalFail(), s.KillFrom()},
			{"a rival's read and write fit in the wait", 2 * s.OneIO(), s.ShortDelay()},
			{"a bit lives for two renewals", 2*s.Renewal() + s.OneIO(), s.BitmapHold()},
		} {
			if c.first > c.then {
				t.Errorf("%+v: %s: %v > %v", s, c.what, c.first, c.then)
			}
		}
		larger := s
		larger.IO += rapid.Uint32Range(0, 65535).Draw(t, "more")
		if larger.HostDead() < s.HostDead() || larger.RenewalFail() < s.RenewalFail() ||
			larger.ShortDelay() < s.ShortDelay() {
			t.Errorf("intervals shrink from %+v to %+v", s, larger)
		}
	})
}

// The defaults leave holders time between the signal and the reset.
func TestDefaultsKillBeforeTheReset(t *testing.T) {
	for io := uint32(1); io <= timeouts.MaxIO; io++ {
		s := timeouts.Set{IO: io, Fire: timeouts.DefaultFire}
		const wdmd = 10 * time.Second // the last pet may come this much before the expiry
		if s.KillFrom() >= s.HostDead()-wdmd {
			t.Fatalf("io_timeout %d: SIGKILL from %v, reset from %v", io, s.KillFrom(), s.HostDead()-wdmd)
		}
	}
}

func ExampleSet() {
	s := timeouts.Of(0, timeouts.DefaultIO, timeouts.DefaultFire)
	fmt.Println(s.Renewal(), s.RenewalFail(), s.HostDead())
	// Output: 20s 1m20s 2m20s
}
