package sim_test

import (
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenurelock/tenure/daemon/sim"
	"github.com/tenurelock/tenure/watchdog"
	"github.com/tenurelock/tenure/watchdog/memdog"
)

// TestOneOfTwo: when the disk of one lockspace is lost its holders end, the machine lives on, and the other
// lockspace misses no renewal.
func TestOneOfTwo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := sim.New(2)
		defer w.Close()
		a, b := pair(t, w, 2, 2)
		goes, stays := acquire(t, a, 0, sim.Stubborn), acquire(t, a, 1, sim.Stubborn)
		fault := w.Now()
		a.HangSpace(0)
		if _, err := b.Insist(0, 1, sim.Polite, time.Second, 2*time.Minute); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		noBreach(t, w)
		if goes.Until() == 0 || stays.Until() != 0 {
			t.Errorf("the holder in the lost lockspace ended at %v, the other at %v", goes.Until(), stays.Until())
		}
		unharmed(t, w, a, fault)
		if n := len(a.Renewals(0)); a.Renewals(0)[n-1].At > fault {
			t.Error("a renewal went through a disk that hangs")
		}
		rhythm(t, a, 1, fault, 6*time.Second)
	})
}

// rhythm checks that a lockspace was renewed from a time on until now, at most so far apart.
func rhythm(t *testing.T, h *sim.Host, space int, from, apart time.Duration) {
	t.Helper()
	last, n := from, 0
	for _, r := range h.Renewals(space) {
		if r.At < from {
			continue
		}
		if r.At-last > apart {
			t.Errorf("S%d was not renewed from %v to %v", space, last, r.At)
		}
		last, n = r.At, n+1
	}
	if n < 10 {
		t.Errorf("S%d was renewed %d times", space, n)
	}
}

// unharmed checks that a machine was not reset, and that its watchdog runs and is petted.
func unharmed(t *testing.T, w *sim.World, h *sim.Host, since time.Duration) {
	t.Helper()
	if at, came := w.Find("a", "reset", since); came {
		t.Errorf("the machine was reset at %v", at)
	}
	dog := h.Watchdog()
	if age := time.Since(dog.Began()) - dog.Last(); !dog.Counting() || age > 11*time.Second {
		t.Errorf("the watchdog counts %v and was petted %v ago", dog.Counting(), age)
	}
}

// TestOverlap: two lockspaces fail in turn for two minutes, one before the other recovers. Each recovers in
// time, so nothing happens. Debian's wdmd, which gives the watchdog up ten seconds before an end, would
// reset the machine (tools/vmtest TestOverlap/wdmd tells it and ours of the like).
func TestOverlap(t *testing.T) {
	const outage, turn, turns = 10 * time.Second, 6500 * time.Millisecond, 18
	synctest.Test(t, func(t *testing.T) {
		w := sim.New(2)
		defer w.Close()
		a, _ := pair(t, w, 2, 2)
		holds := []*sim.Hold{acquire(t, a, 0, sim.Polite), acquire(t, a, 1, sim.Polite)}
		began := w.Now()
		a.HangSpace(0)
		for n := range turns {
			begins := began + time.Duration(n)*turn
			time.Sleep(begins + turn - w.Now())
			a.HangSpace((n + 1) % 2)
			time.Sleep(begins + outage - w.Now())
			a.HealSpace(n % 2)
		}
		a.HealSpace(turns % 2)
		ended := w.Now()
		time.Sleep(2 * time.Minute)
		noBreach(t, w)
		unharmed(t, w, a, began)
		for _, h := range holds {
			if h.Until() != 0 {
				t.Errorf("a holder ended at %v\n%s", h.Until(), w.Timeline(began))
			}
		}
		if stock := longestWithoutPet(a, began, ended); stock < watchdog.DefaultFire {
			t.Errorf("Debian's wdmd would have waited %v with a pet: this test shows nothing", stock)
		}
	})
}

// longestWithoutPet is how long Debian's wdmd would not have petted at most: it looks each second then, and
// does not pet while any end is ten seconds away or less (spec sanlock-daemon 3.4).
func longestWithoutPet(h *sim.Host, from, to time.Duration) time.Duration {
	const near = 10 * time.Second
	var since, longest time.Duration
	for now := from; now < to; now += time.Second {
		good := true
		for space := range sim.Spaces {
			var stamp time.Duration
			for _, r := range h.Renewals(space) {
				if r.At <= now {
					stamp = r.Stamp
				}
			}
			good = good && now < stamp+16*time.Second-near
		}
		switch {
		case good:
			since = 0
		case since == 0:
			since = now
		}
		if since != 0 {
			longest = max(longest, now-since)
		}
	}
	return longest
}

// TestCleanRestart: daemons that end in an orderly way leave a machine whose watchdog does not count, and
// come back as if nothing had been.
func TestCleanRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := sim.New(2)
		defer w.Close()
		a, _ := pair(t, w, 2, 1)
		acquire(t, a, 0, sim.Polite).End("the user ends")
		time.Sleep(time.Second)
		if err := a.EndDaemons(); err == nil {
			t.Fatal("the lease daemon ended though it had a lockspace")
		}
		for range 2 {
			if err := a.Leave(0); err != nil {
				t.Fatal(err)
			}
			if err := a.EndDaemons(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(3 * time.Minute)
			if a.Watchdog().Counting() {
				t.Error("the watchdog counts, and nobody is there to pet it")
			}
			if err := a.StartDaemons(); err != nil {
				t.Fatal(err)
			}
			join(t, 1, a)
			acquire(t, a, 0, sim.Polite).End("the user ends")
			time.Sleep(3 * time.Minute)
			unharmed(t, w, a, 0)
		}
		all := strings.Join(a.Watchdog().Events(), " ")
		if strings.Contains(all, "abandon") || strings.Contains(all, "killed") {
			t.Error(all)
		}
	})
}

// TestNoJoinUnarmed: a host whose watchdog cannot be armed joins nothing.
func TestNoJoinUnarmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := sim.New(2)
		defer w.Close()
		a := must(w.Boot("a", 1, 2))(t)
		a.Watchdog().Break(memdog.Faults{BadOpen: syscall.EIO})
		if err := a.Join(0); err == nil {
			t.Error("joined without a watchdog")
		}
		a.Watchdog().Break(memdog.Faults{})
		join(t, 1, a)
		unharmed(t, w, a, 0)
	})
}

// TestBootsAgain: a machine that was reset joins with its old host id, is refused what is another's now,
// and is granted it when it is given back.
func TestBootsAgain(t *testing.T) {
	for _, l := range []loss{
		{name: "power cut", do: (*sim.Host).CutPower},
		{name: "reset", do: (*sim.Host).HangDisk},
		{name: "both daemons killed", do: (*sim.Host).KillBoth},
	} {
		t.Run(l.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { bootsAgain(t, l) })
		})
	}
}

func bootsAgain(t *testing.T, l loss) {
	w := sim.New(2)
	defer w.Close()
	a, b := pair(t, w, 2, 1)
	old := acquire(t, a, 0, sim.Stuck)
	l.do(a)
	theirs, err := b.Insist(0, 1, sim.Polite, time.Second, 2*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if old.Until() == 0 || old.Until() >= w.Now() {
		t.Errorf("the old holder ended at %v", old.Until())
	}
	a = join(t, 1, must(w.Boot("a", 1, 2))(t))
	if _, number, err := a.Acquire(0, 1, sim.Polite); number != -243 || err != nil {
		t.Errorf("what is b's: %d, %v", number, err)
	}
	theirs.End("b's process ends")
	if _, err := a.Insist(0, 1, sim.Polite, time.Second, 10*time.Second); err != nil {
		t.Error(err)
	}
	noBreach(t, w)
}

// TestThaw: a machine is frozen until another has been granted its lease. If its watchdog is a timer of the
// kernel it fires at the thaw, before any process runs: no holder does harm, as in the virtual machines.
func TestThaw(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := sim.New(2)
		defer w.Close()
		a, b := pair(t, w, 2, 1)
		acquire(t, a, 0, sim.Polite)
		fault := w.Now()
		a.FreezeKernel()
		if _, err := b.Insist(0, 1, sim.Polite, time.Second, 2*time.Minute); err != nil {
			t.Fatal(err)
		}
		if after := w.Now() - fault; after < 70*time.Second || after > 85*time.Second {
			t.Errorf("granted %v after the freeze", after)
		}
		time.Sleep(3 * time.Second)
		a.Thaw()
		noBreach(t, w)
		if at, came := w.Find("a", "reset", fault); !came || at != w.Now() {
			t.Errorf("reset: %v, at %v, thawed at %v", came, at, w.Now())
		}
	})
}

// TestLateAnswer: the answer to the last renewal comes late. The lease counts from before the write, for
// others see the renewal before its writer knows of it.
func TestLateAnswer(t *testing.T) {
	for _, manner := range []sim.Manner{sim.Polite, sim.Stuck} {
		t.Run(manner.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { lateAnswer(t, manner) })
		})
	}
}

func lateAnswer(t *testing.T, manner sim.Manner) {
	const late = 7 * time.Second
	w := sim.New(2)
	defer w.Close()
	a, b := pair(t, w, 2, 1)
	hold := acquire(t, a, 0, manner)
	a.LateAnswers(late)
	a.AwaitRenewal(0)
	time.Sleep(late + time.Second/10) // from here on a knows
	fault := w.Now()
	a.FailDisk()
	if _, err := b.Insist(0, 1, sim.Polite, time.Second/2, 2*time.Minute); err != nil {
		t.Fatal(err)
	}
	t.Logf("margin %.1f s\n%s", (w.Now() - hold.Until()).Seconds(), w.Timeline(fault))
	noBreach(t, w)
	last := a.Renewals(0)[len(a.Renewals(0))-1]
	at, came := w.Find("a", "terminated", fault)
	if want := last.Stamp + 16*time.Second; !came || at < want || at > want+1200*time.Millisecond {
		t.Errorf("SIGTERM %v, at %v, want %v", came, at, want)
	}
	if manner == sim.Polite {
		return
	}
	if at, came := w.Find("a", "reset", fault); !came || at > last.Stamp+76*time.Second {
		t.Errorf("reset %v, at %v, the last renewal says %v", came, at, last.Stamp)
	}
}
