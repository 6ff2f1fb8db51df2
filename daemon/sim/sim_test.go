package sim_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenurelock/tenure/daemon/sim"
	"github.com/tenurelock/tenure/leases/timeouts"
)

// pair boots two hosts in lockspace S0 that have seen each other.
func pair(t *testing.T, w *sim.World, io int) (a, b *sim.Host) {
	t.Helper()
	var hosts []*sim.Host
	for i, name := range []string{"a", "b"} {
		h, err := w.Boot(name, uint64(i+1), io)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Join(0); err != nil {
			t.Fatal(err)
		}
		hosts = append(hosts, h)
	}
	time.Sleep(time.Duration(4*io) * time.Second)
	return hosts[0], hosts[1]
}

// scenario is one way in which host a loses what it has.
type scenario struct {
	name   string
	io     int
	manner sim.Manner
	lose   func(*sim.Host)
	// When, in seconds after the loss, the first SIGTERM and SIGKILL come (0 never), counted from the last
	// renewal, which is up to 2*io and a second before it.
	term, kill int
}

var scenarios = []scenario{
	{"power cut", 2, sim.Stuck, (*sim.Host).CutPower, 0, 0},
	{"power cut", 10, sim.Stuck, (*sim.Host).CutPower, 0, 0},
	{"storage fails", 2, sim.Polite, (*sim.Host).FailDisk, 16, 0},
	{"storage hangs", 2, sim.Polite, (*sim.Host).HangDisk, 16, 0},
	{"storage fails", 10, sim.Polite, (*sim.Host).FailDisk, 80, 0},
	{"storage fails", 2, sim.Stubborn, (*sim.Host).FailDisk, 16, 56},
	{"storage hangs", 2, sim.Stubborn, (*sim.Host).HangDisk, 16, 56},
	{"storage hangs", 10, sim.Stubborn, (*sim.Host).HangDisk, 80, 120},
}

// TestLosses: the other host is granted the lease after the last holder's end, no earlier than the spec allows
// and no later than a renewal and two seconds after it first may (spec sanlock-daemon 2.9, rig 2).
func TestLosses(t *testing.T) {
	for _, s := range scenarios {
		t.Run(fmt.Sprintf("%s, io %d, %v", s.name, s.io, s.manner), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { s.play(t) })
		})
	}
}

func (s scenario) play(t *testing.T) {
	w := sim.New(s.io)
	defer w.Close()
	a, b := pair(t, w, s.io)
	hold, number, err := a.Acquire(0, 1, s.manner)
	if err != nil || number != 0 {
		t.Fatalf("acquire: %d, %v", number, err)
	}
	if _, number, err = b.Acquire(0, 1, sim.Polite); err != nil || number == 0 {
		t.Fatalf("the other host is answered %d, %v", number, err)
	}
	fault := w.Now()
	s.lose(a)
	times := timeouts.Set{IO: uint32(s.io), Fire: timeouts.DefaultFire}
	if _, err := b.Insist(0, 1, sim.Polite, 2*times.HostDead()); err != nil {
		t.Fatal(err)
	}
	granted := w.Now()
	t.Logf("\n%s", w.Timeline(fault))
	for _, breach := range w.Breaches() {
		t.Error(breach)
	}
	if end := hold.Until(); end == 0 || end >= granted {
		t.Errorf("the holder ended at %v, the grant came at %v", end, granted)
	}
	// The last renewal was up to an interval before the loss, and was seen up to an interval after it was made.
	slack := times.Renewal() + time.Second
	if after := granted - fault; after < times.HostDead()-slack || after > times.HostDead()+slack+2*time.Second {
		t.Errorf("granted %v after the loss, want %v give or take %v", after, times.HostDead(), slack)
	}
	s.signal(t, w, "terminated", fault, s.term)
	s.signal(t, w, "killed", fault, s.kill)
}

// signal checks when a signal first came.
func (s scenario) signal(t *testing.T, w *sim.World, what string, fault time.Duration, want int) {
	t.Helper()
	at, came := w.Find("a", what, fault)
	if came != (want != 0) {
		t.Errorf("%s: came %v, want %v", what, came, want != 0)
	}
	if !came {
		return
	}
	last := time.Duration(want) * time.Second
	if after := at - fault; after > last+time.Second || after < last-time.Duration(2*s.io+2)*time.Second {
		t.Errorf("%s came %v after the loss, want %v after the last renewal before it", what, after, last)
	}
}

// TestJudge: a process that cannot be killed, on a host without a watchdog, still holds its lease when another
// host gets it. The judge must see that.
func TestJudge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := sim.New(2)
		defer w.Close()
		a, b := pair(t, w, 2)
		if _, number, err := a.Acquire(0, 1, sim.Stuck); err != nil || number != 0 {
			t.Fatalf("acquire: %d, %v", number, err)
		}
		a.HangDisk()
		if _, err := b.Insist(0, 1, sim.Polite, 3*time.Minute); err != nil {
			t.Fatal(err)
		}
		if len(w.Breaches()) != 1 {
			t.Errorf("breaches: %q", w.Breaches())
		}
	})
}

// TestStorageReturns: after a short outage nothing has happened; after a long one the holder is gone, and the
// host joins again and is refused what is another's now.
func TestStorageReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := sim.New(2)
		defer w.Close()
		a, b := pair(t, w, 2)
		hold, _, err := a.Acquire(0, 1, sim.Polite)
		if err != nil || hold == nil {
			t.Fatal(err)
		}
		a.HangDisk()
		time.Sleep(8 * time.Second)
		a.HealDisk()
		time.Sleep(30 * time.Second)
		if hold.Until() != 0 {
			t.Error("an outage of 8 s, of 16 that may be, ended the holder")
		}
		a.FailDisk()
		theirs, err := b.Insist(0, 1, sim.Polite, 2*time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		a.HealDisk()
		for began := w.Now(); a.Join(0) != nil; time.Sleep(time.Second) {
			if w.Now()-began > time.Minute {
				t.Fatal("a cannot join again")
			}
		}
		time.Sleep(10 * time.Second)
		if _, number, err := a.Acquire(0, 1, sim.Polite); number != -243 || err != nil {
			t.Errorf("what is b's: %d, %v", number, err)
		}
		theirs.End("b's process ends")
		if _, err := a.Insist(0, 1, sim.Polite, 10*time.Second); err != nil {
			t.Error(err)
		}
		for _, breach := range w.Breaches() {
			t.Error(breach)
		}
	})
}

// TestLeavingOneOfTwo: the removal of a lockspace ends its users, and nobody else.
func TestLeavingOneOfTwo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := sim.New(2)
		defer w.Close()
		a, b := pair(t, w, 2)
		for _, h := range []*sim.Host{a, b} {
			if err := h.Join(1); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Second)
		stays, _, err := a.Acquire(0, 1, sim.Stubborn)
		if err != nil || stays == nil {
			t.Fatal(err)
		}
		goes, _, err := a.Acquire(1, 1, sim.Stubborn)
		if err != nil || goes == nil {
			t.Fatal(err)
		}
		if err := a.Leave(1); err != nil {
			t.Fatal(err)
		}
		if stays.Until() != 0 || goes.Until() == 0 {
			t.Errorf("the one that stays ended at %v, the other at %v", stays.Until(), goes.Until())
		}
		if _, err := b.Insist(1, 1, sim.Polite, 10*time.Second); err != nil {
			t.Error(err)
		}
		for _, breach := range w.Breaches() {
			t.Error(breach)
		}
	})
}
