package mux

import (
	"math"
	"testing"
	"time"

	"github.com/tenurelock/tenure/leases/monotime"
)

func at(s float64) monotime.Instant { return monotime.Instant(s * float64(time.Second)) }

func TestBoundaries(t *testing.T) {
	for _, c := range []struct {
		now  float64
		want Action
	}{
		{100, Pet}, {109.4, Pet}, {109.5, Abandon}, {110, Abandon}, {119.5, Abandon}, {119.6, Hold}, {120, Hold}, {500, Hold},
	} {
		m := New()
		m.Live(m.Connect(1, 1), 40, 120)
		d := m.Decide(at(c.now), 0, false)
		if d.Action != c.want || (c.want == Pet) != (len(d.Findings) == 0) {
			t.Errorf("at %v: %v (%+v), want %v", c.now, d.Action, d.Findings, c.want)
		}
		if want := map[bool]time.Duration{true: Standard, false: Recovery}[c.want == Pet]; m.Interval() != want {
			t.Errorf("at %v: next decision in %v", c.now, m.Interval())
		}
		if len(d.Findings) > 0 && d.Findings[0].Expired != (c.now >= 120) {
			t.Errorf("at %v: %+v", c.now, d.Findings)
		}
	}
}

func TestScriptsForbidToo(t *testing.T) {
	m := New()
	if d := m.Decide(at(5), 0, true); d.Action != Abandon || m.Interval() != Recovery {
		t.Errorf("%v, next in %v", d.Action, m.Interval())
	}
	m.Live(m.Connect(1, 1), 0, 3)
	if d := m.Decide(at(5), 0, true); d.Action != Hold {
		t.Errorf("%v: a close would be a pet after an end", d.Action)
	}
	if d := New().Decide(at(5), 0, false); d.Action != Pet {
		t.Errorf("%v: nobody forbids it", d.Action)
	}
}

// Time in suspend counts: hosts that watch us did not sleep.
func TestSuspend(t *testing.T) {
	m := New()
	id := m.Connect(1, 1)
	m.Live(id, 40, 120)
	if d := m.Decide(at(50), 0, false); d.Action != Pet {
		t.Fatal(d)
	}
	if d := m.Decide(at(51), time.Minute, false); d.Action != Abandon {
		t.Errorf("%v after a minute of sleep with 70 s to go", d.Action)
	}
	if d := m.Decide(at(52), 2*time.Minute, false); d.Action != Hold {
		t.Errorf("%v after two minutes", d.Action)
	}
	m.Live(id, 53, 133)
	if d := m.Decide(at(54), 2*time.Minute, false); d.Action != Pet {
		t.Errorf("%v after a renewal since", d.Action)
	}
}

// A lockspace with io_timeout 1 or 2 is always near its end; it is looked at more often instead.
func TestShortLives(t *testing.T) {
	for _, c := range []struct {
		io   monotime.Seconds
		want time.Duration
	}{{1, Recovery}, {2, Recovery}, {3, Standard}, {10, Standard}, {255, Standard}} {
		m := New()
		m.Live(m.Connect(1, 1), 100, 100+8*c.io)
		if got := m.Interval(); got != c.want {
			t.Errorf("io_timeout %d: every %v, want %v", c.io, got, c.want)
		}
		// Just before a renewal that is a second late.
		if d := m.Decide(at(float64(100+2*c.io+1)), 0, false); d.Action != Pet {
			t.Errorf("io_timeout %d: %v while all is well", c.io, d.Action)
		}
	}
}

func TestIntervals(t *testing.T) {
	for fire, want := range map[int]time.Duration{600: 10, 60: 10, 59: 5, 30: 5, 29: 2, 10: 2, 9: 1, 1: 1} {
		m := New()
		m.SetFire(time.Duration(fire) * time.Second)
		m.Decide(at(1), 0, false)
		if got := m.Interval(); got != want*time.Second {
			t.Errorf("fire %d: every %v", fire, got)
		}
	}
}

func TestClientsComeAndGo(t *testing.T) {
	m := New()
	a, b := m.Connect(10, 5), m.Connect(11, 6)
	if a != First || b != First+1 || m.Used() || len(m.Ending()) != 0 || m.Len() != 2 {
		t.Fatalf("%d, %d: %+v", a, b, m.Clients())
	}
	m.Open(a)
	if !m.Used() || len(m.Ending()) != 0 {
		t.Error("a client that counts on the device does not use it, or forbids the end")
	}
	m.Ref(b, true)
	m.Name(b, "b")
	if e := m.Ending(); len(e) != 1 || e[0].ID != b {
		t.Errorf("%+v forbid the end", e)
	}
	if m.Gone(a) || m.Gone(b) || m.Used() || m.Len() != 0 {
		t.Error("clients of which nothing was expected are kept")
	}
	c := m.Connect(12, 5)
	m.Live(c, 1, 9)
	m.Ref(c, true)
	if !m.Gone(c) || !m.Used() || !m.Client(c).Dead || len(m.Ending()) != 1 {
		t.Errorf("a client was forgotten that died with an end to come: %+v", m.Clients())
	}
	if d := m.Connect(13, 5); d != c+1 {
		t.Errorf("the number of a dead client was given to another: %d", d)
	}
}

func TestFarAway(t *testing.T) {
	m := New()
	m.Live(m.Connect(1, 1), 0, math.MaxUint64)
	if d := m.Decide(at(1e6), time.Hour, false); d.Action != Pet {
		t.Errorf("%+v: an end that can hardly be counted", d)
	}
	m.Live(First, math.MaxUint64, 5)
	if d := m.Decide(at(1e6), time.Hour, false); d.Action != Hold {
		t.Errorf("%+v", d)
	}
}
