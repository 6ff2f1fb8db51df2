package sim_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenurelock/tenure/daemon/sim"
)

// pair boots two hosts in the first lockspaces that have seen each other.
func pair(t *testing.T, w *sim.World, io, spaces int) (a, b *sim.Host) {
	t.Helper()
	return join(t, spaces, must(w.Boot("a", 1, io))(t)), join(t, spaces, must(w.Boot("b", 2, io))(t))
}

func must(h *sim.Host, err error) func(*testing.T) *sim.Host {
	return func(t *testing.T) *sim.Host {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
}

// join joins the first lockspaces and waits until the other hosts were seen.
func join(t *testing.T, spaces int, h *sim.Host) *sim.Host {
	t.Helper()
	for space := range spaces {
		if err := h.Join(space); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(3 * time.Duration(h.IO()) * time.Second)
	return h
}

func noBreach(t *testing.T, w *sim.World) {
	t.Helper()
	for _, breach := range w.Breaches() {
		t.Error(breach)
	}
}

// acquire is granted a lease at once.
func acquire(t *testing.T, h *sim.Host, space int, manner sim.Manner) *sim.Hold {
	t.Helper()
	hold, number, err := h.Acquire(space, 1, manner)
	if err != nil || hold == nil {
		t.Fatalf("acquire S%d:R1: %d, %v", space, number, err)
	}
	return hold
}

// TestJudge: a process that cannot be killed, on a host without a watchdog, still holds its lease when
// another host gets it. The judge must see that.
func TestJudge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := sim.New(2)
		defer w.Close()
		a := join(t, 1, must(w.BootBare("a", 1, 2))(t))
		b := join(t, 1, must(w.BootBare("b", 2, 2))(t))
		if _, number, err := a.Acquire(0, 1, sim.Stuck); err != nil || number != 0 {
			t.Fatalf("acquire: %d, %v", number, err)
		}
		a.HangDisk()
		if _, err := b.Insist(0, 1, sim.Polite, time.Second, 3*time.Minute); err != nil {
			t.Fatal(err)
		}
		if len(w.Breaches()) != 1 {
			t.Errorf("breaches: %q", w.Breaches())
		}
	})
}

// TestJudgeOfTheThawed: what a frozen machine holds hurts nobody until it is thawed, and without a watchdog
// then. The judge must see that.
func TestJudgeOfTheThawed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := sim.New(2)
		defer w.Close()
		a := join(t, 1, must(w.BootBare("a", 1, 2))(t))
		b := join(t, 1, must(w.BootBare("b", 2, 2))(t))
		acquire(t, a, 0, sim.Stuck)
		a.Freeze()
		if _, err := b.Insist(0, 1, sim.Polite, time.Second, 3*time.Minute); err != nil {
			t.Fatal(err)
		}
		noBreach(t, w)
		a.Thaw()
		if len(w.Breaches()) != 1 {
			t.Errorf("breaches: %q", w.Breaches())
		}
	})
}

// TestStorageReturns: after a short outage nothing has happened; after a long one the holder is gone, and
// the host joins again and is refused what is another's now.
func TestStorageReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := sim.New(2)
		defer w.Close()
		a, b := pair(t, w, 2, 1)
		hold := acquire(t, a, 0, sim.Polite)
		a.HangDisk()
		time.Sleep(8 * time.Second)
		a.HealDisk()
		time.Sleep(30 * time.Second)
		if hold.Until() != 0 {
			t.Error("an outage of 8 s, of 16 that may be, ended the holder")
		}
		a.FailDisk()
		theirs, err := b.Insist(0, 1, sim.Polite, time.Second, 2*time.Minute)
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
		if _, err := a.Insist(0, 1, sim.Polite, time.Second, 10*time.Second); err != nil {
			t.Error(err)
		}
		noBreach(t, w)
	})
}

// TestLeavingOneOfTwo: the removal of a lockspace ends its users, and nobody else.
func TestLeavingOneOfTwo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := sim.New(2)
		defer w.Close()
		a, b := pair(t, w, 2, 2)
		stays, goes := acquire(t, a, 0, sim.Stubborn), acquire(t, a, 1, sim.Stubborn)
		if err := a.Leave(1); err != nil {
			t.Fatal(err)
		}
		if stays.Until() != 0 || goes.Until() == 0 {
			t.Errorf("the one that stays ended at %v, the other at %v", stays.Until(), goes.Until())
		}
		if _, err := b.Insist(1, 1, sim.Polite, time.Second, 10*time.Second); err != nil {
			t.Error(err)
		}
		noBreach(t, w)
	})
}
