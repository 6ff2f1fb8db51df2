package sim_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenurelock/tenure/daemon/sim"
)

// Standstills of host a, right after a renewal. Leases last 16 s, host_dead is 76 s.
const (
	shortFreeze = 10 * time.Second
	leaseFreeze = 40 * time.Second // the lease is over, nobody else has it yet
	deadFreeze  = 90 * time.Second // another host has it
)

// frozenPair boots two hosts without a watchdog, of which the first holds a lease and writes with care.
func frozenPair(t *testing.T, w *sim.World, care sim.Care) (a, b *sim.Host, hold *sim.Hold) {
	t.Helper()
	a = join(t, 1, must(w.BootBare("a", 1, 2))(t))
	b = join(t, 1, must(w.BootBare("b", 2, 2))(t))
	// Stuck: no signal ends it, so that its own care is all there is.
	hold = acquire(t, a, 0, sim.Stuck)
	hold.Write(care)
	a.AwaitRenewal(0)
	time.Sleep(time.Second)
	if hold.Written() == 0 {
		t.Fatal("the holder does not write")
	}
	return a, b, hold
}

// TestFreeze: all processes of a host stand still and go on. A holder that uses the Guard writes after a short
// standstill, and nothing after another host's grant, in whatever order its host's processes go on.
func TestFreeze(t *testing.T) {
	for _, care := range []sim.Care{sim.Checks, sim.Enforces} {
		for _, frozen := range []time.Duration{shortFreeze, leaseFreeze, deadFreeze} {
			t.Run(fmt.Sprintf("%v, %v", care, frozen), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { freezes(t, care, frozen) })
			})
		}
	}
}

func freezes(t *testing.T, care sim.Care, frozen time.Duration) {
	w := sim.New(2)
	defer w.Close()
	a, b, hold := frozenPair(t, w, care)
	fault, before := w.Now(), hold.Written()
	a.Freeze()
	got, _ := b.Insist(0, 1, sim.Polite, time.Second, frozen)
	if got != nil {
		time.Sleep(fault + frozen - w.Now())
	}
	if wrote := hold.Written() - before; wrote > 1 {
		t.Fatalf("%d writes of a host that stands still", wrote)
	}
	if (got != nil) != (frozen == deadFreeze) {
		t.Fatalf("granted: %v\n%s", got != nil, w.Timeline(fault))
	}
	before = hold.Written()
	a.Thaw()
	time.Sleep(10 * time.Second)
	noBreach(t, w)
	wrote := hold.Written() - before
	switch {
	case frozen == shortFreeze && (hold.Until() != 0 || wrote == 0):
		t.Errorf("ended at %v after a standstill that the lease outlasts, and %d writes", hold.Until(), wrote)
	case frozen == deadFreeze && (hold.Until() == 0 || wrote != 0):
		t.Errorf("goes on after another's grant: ended at %v, %d writes\n%s", hold.Until(), wrote, w.Timeline(fault))
	case care == sim.Checks && frozen == leaseFreeze && (hold.Until() == 0 || wrote != 0):
		t.Errorf("goes on after its lease: ended at %v, %d writes", hold.Until(), wrote)
	}
}

// TestFreezeInQuestion: the host stands still when the daemon has answered the Guard, which has not read it yet: what
// it reads was true before.
func TestFreezeInQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := sim.New(2)
		defer w.Close()
		a, b, hold := frozenPair(t, w, sim.Checks)
		hold.SlowToRead(time.Second)
		fault := w.Now()
		for asks := false; !asks; _, asks = w.Find("a", fmt.Sprintf("process %d asks", hold.PID()), fault) {
			time.Sleep(100 * time.Millisecond)
		}
		a.Freeze()
		before := hold.Written()
		if _, err := b.Insist(0, 1, sim.Polite, time.Second, 2*time.Minute); err != nil {
			t.Fatal(err)
		}
		a.Thaw()
		time.Sleep(10 * time.Second)
		noBreach(t, w)
		if hold.Until() == 0 || hold.Written() != before {
			t.Errorf("ended at %v, %d writes\n%s", hold.Until(), hold.Written()-before, w.Timeline(fault))
		}
	})
}

// TestUnguarded: a holder that asks nobody writes after another's grant. The judge must see that.
func TestUnguarded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := sim.New(2)
		defer w.Close()
		a, b, _ := frozenPair(t, w, sim.Careless)
		a.Freeze()
		if _, err := b.Insist(0, 1, sim.Polite, time.Second, 2*time.Minute); err != nil {
			t.Fatal(err)
		}
		noBreach(t, w)
		a.Thaw()
		time.Sleep(time.Second)
		if len(w.Breaches()) != 1 {
			t.Errorf("breaches: %q", w.Breaches())
		}
	})
}
