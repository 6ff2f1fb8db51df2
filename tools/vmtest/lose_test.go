package vmtest

import (
	"testing"
	"time"

	"github.com/tenurelock/tenure/tools/rig/vm"
)

// TestTenure loses a host with our programs in every way; Debian's judge what it left.
func TestTenure(t *testing.T) { loseAll(t, tenure, debian, chosen()) }

// TestTenureSurvives lets our programs judge what hosts with Debian's left.
func TestTenureSurvives(t *testing.T) {
	loseAll(t, debian, tenure, chosen("cut", "hang-stuck", "errors-polite", "unplug-stubborn"))
}

// TestOurs has our programs on both hosts.
func TestOurs(t *testing.T) {
	loseAll(t, tenure, tenure, chosen("cut", "hang-stuck", "errors-stubborn"))
}

// TestLeasesOverDebianWatchdog and the next put one of our daemons together with one of Debian's.
func TestLeasesOverDebianWatchdog(t *testing.T) {
	loseAll(t, tenureLeases, tenure, chosen("hang-stuck", "errors-polite", "sanlock-killed", "wdmd-killed"))
}

// TestWatchdogUnderDebianLeases lets Debian's lease daemon rely on our watchdog daemon.
func TestWatchdogUnderDebianLeases(t *testing.T) {
	loseAll(t, tenureWatchdog, tenure, chosen("hang-stuck", "errors-polite", "sanlock-killed", "wdmd-killed"))
}

// TestTenureAlone loses hosts with our lease daemon, and no watchdog, where its signals are enough.
func TestTenureAlone(t *testing.T) { loseAll(t, tenureAlone, debian, chosen("unplug-stubborn")) }

// TestDebian is what the rig and the margins are checked by: the stock programs on both hosts.
func TestDebian(t *testing.T) {
	loseAll(t, debian, debian, chosen("cut", "hang-stuck", "errors-polite", "freeze", "sanlock-killed", "wdmd-killed"))
}

// TestStoppedClock: when all clocks of a host stand still with it, as in a snapshot or a migration, nothing in
// it can notice, and no lease of time protects what it held. So this is where the holders' records must tell
// of harm; if they did not, their silence elsewhere would mean nothing.
func TestStoppedClock(t *testing.T) {
	s := scenario{name: "pause", fault: pause, thaw: resume, ends: byNothing}
	s.fill()
	loseAll(t, debian, debian, []scenario{s})
}

// TestGuardedUnderDebian lets a holder protect itself by our library while Debian's daemons run, and TestUnguarded
// shows what it does without.
func TestGuardedUnderDebian(t *testing.T) {
	loseAll(t, debian, debian, chosen("freeze-i6300esb-check", "freeze-i6300esb-timer"))
}

// TestUnguarded: the holder of a host that stood still may run before the daemon that stops it.
func TestUnguarded(t *testing.T) { loseAll(t, tenure, debian, []scenario{unguarded()}) }

// loseAll runs scenarios side by side.
func loseAll(t *testing.T, lost, survivor programs, scenarios []scenario) {
	t.Parallel()
	if len(scenarios) == 0 {
		t.Fatal("no such scenario")
	}
	for _, s := range scenarios {
		s.lost, s.survivor = lost, survivor
		t.Run(s.name, func(t *testing.T) {
			inBrief(t)
			t.Parallel()
			lose(t, &s)
		})
	}
}

// lose runs a scenario, prints its timeline and checks it.
func lose(t *testing.T, s *scenario) {
	c := newCluster(t, shape{
		machines: 2, disks: 2, io: s.io, sector: s.sector, watchdog: s.watchdog, limit: s.limit(),
	})
	c.daemons(1, s.lost)
	c.daemons(2, s.survivor)
	c.format(0)
	c.join([]int{1, 2}, 0)
	c.hold(1, 0, s.flags())
	c.refused(2, 0)
	r := watchRenewals(t, c.disks[leaseDisk], 1, s.sector)
	r.next(c.ctx, t)
	time.Sleep(300 * time.Millisecond)
	tl := &timeline{fault: time.Now()}
	if err := s.fault(c); err != nil {
		t.Fatal(err)
	}
	if s.thaw != nil {
		tl.fault = time.Now() // it waited for a moment
	}
	c.takeOver(2, 0)
	tl.granted = c.wait(vm.Match{Machine: 2, Source: "holder", Text: "granted", Since: tl.fault}).At
	if s.thaw != nil {
		tl.renewed = r.at() // it may renew again
		time.Sleep(3 * time.Second)
		tl.back = time.Now()
		if err := s.thaw(c); err != nil {
			t.Fatal(err)
		}
	}
	c.wait(vm.Match{Machine: 2, Source: "holder", Text: "wrote ", Since: tl.granted})
	c.settle(s)
	tl.read(c, r)
	t.Logf("%s: io_timeout %d, sectors of %d, %s, %s holder; lost %s, survivor %s%s", t.Name(), s.io, s.sector,
		s.watchdog, s.holder, s.lost.name, s.survivor.name, tl)
	tl.check(t, s)
	if s.rejoin {
		c.rejoin(s)
	}
}

// settle waits for what an old holder may still do, and for the end of one that stood still.
func (c *cluster) settle(s *scenario) {
	c.Helper()
	time.Sleep(5 * time.Second)
	if s.thaw == nil || s.name == "pause" {
		return
	}
	for end := time.Now().Add(fire / 2); time.Now().Before(end) && len(c.lost().Resets()) == 0; {
		if len(c.rig.Log().Find(vm.Match{Machine: 1, Source: "holder", Text: ended})) > 0 {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// rejoin lets vm1 come back: it joins as the host it was, and must not get what is vm2's now.
func (c *cluster) rejoin(s *scenario) {
	c.Helper()
	booting <- struct{}{}
	err := c.lost().Boot(c.ctx)
	<-booting
	if err != nil {
		c.Fatal(err)
	}
	c.daemons(1, s.lost)
	c.join([]int{1}, 0)
	c.refused(1, 0)
}

// Bounds on what the clocks of the parties may differ in. Leases count whole seconds, the daemons look once a
// second, and the machines share a slow host.
const (
	early = 1 * time.Second
	late  = 4 * time.Second
)

// twoWriters begins what must never be: two that write. Whoever plays scenarios again, because a machine that is too busy
// missed a time, does not do so with these.
const twoWriters = "UNSAFE: "

// checker holds moments of a timeline against each other.
type checker struct {
	*testing.T
	tl *timeline
}

func (c checker) within(what string, at, from time.Time, least, most time.Duration) {
	c.Helper()
	if at.IsZero() || from.IsZero() {
		c.Errorf("%s: did not happen, or what it follows did not", what)
	} else if took := at.Sub(from); took < least || took > most {
		c.Errorf("%s: %.1f s after what it follows, want %v to %v", what, took.Seconds(), least, most)
	}
}

// check holds a timeline to what leases promise. The first promise is the one that matters: nobody writes
// after another was granted the lease.
func (tl *timeline) check(t *testing.T, s *scenario) {
	t.Helper()
	c := checker{t, tl}
	c.harmless(s)
	// The survivor counts from when its own renewal saw the last timestamp, up to one interval later.
	seen := tl.renewed
	if !tl.landed.IsZero() {
		seen = tl.landed
	}
	c.within("grant", tl.granted, seen, s.dead()-early, s.dead()+s.interval()+2*late)
	if s.ends == byNothing {
		return
	}
	if over := tl.over(s); over.IsZero() {
		t.Error("the old holder was neither reset nor ended")
	} else if margin := tl.granted.Sub(over); margin <= 0 {
		t.Errorf(twoWriters+"the grant came %.1f s before the end of the old holder", -margin.Seconds())
	} else if margin < s.margin() {
		t.Errorf("the grant came %.1f s after the end of the old holder, want %v at least", margin.Seconds(), s.margin())
	}
	switch s.ends {
	case byWatchdog:
		c.within("reset", tl.reset, tl.renewed, fire-time.Second, s.dead()+early)
	case byUnpetted:
		// Debian's wdmd last petted up to 10 s before the fault.
		c.within("reset", tl.reset, tl.fault, fire-11*time.Second, fire+early)
	default:
		if !tl.reset.IsZero() {
			t.Errorf("vm1 was reset %s s after the fault; nothing called for it", tl.since(tl.reset))
		}
	}
	if s.ends == bySignal || s.holder == stuck {
		c.signals(s)
	}
}

// harmless checks that the old holder wrote nothing after the grant, or that the oracle tells of it.
func (c checker) harmless(s *scenario) {
	c.Helper()
	if s.name == "pause" {
		if len(c.tl.afterGrant) == 0 || len(c.tl.harm) == 0 {
			c.Errorf("%d records of vm1 after the grant and %d findings; want both", len(c.tl.afterGrant), len(c.tl.harm))
		}
		return
	}
	if !s.races {
		for _, l := range c.tl.afterGrant {
			c.Errorf(twoWriters+"vm1 wrote %v after the grant: %s", l.At.Sub(c.tl.granted), l.Text)
		}
		for _, l := range c.tl.harm {
			if s.thaw != nil && l.Machine == 1 {
				continue // it reads what the new owner has written, as it may
			}
			c.Errorf(twoWriters+"the holder of vm%d found: %s", l.Machine, l.Text)
		}
	}
	switch {
	case s.thaw == nil:
	case s.watchdog == vm.Softdog:
		c.within("reset after standing still", c.tl.reset, c.tl.back, 0, late)
	case !c.tl.reset.IsZero():
		// An emulated i6300esb has two stages; the second begins when the first is seen to have ended, at the thaw.
		c.within("reset after standing still", c.tl.reset, c.tl.back, 0, fire/2+late)
	default: // the watchdog is petted again once the holder is gone
		c.within("the end of the holder after standing still", c.tl.died, c.tl.back, 0, fire/2+late)
	}
}

// signals checks how the lease daemon stopped the holder.
func (c checker) signals(s *scenario) {
	c.Helper()
	c.within("SIGTERM", c.tl.term, c.tl.renewed, s.expires()-early, s.expires()+late)
	if s.holder != stuck { // who waits for a disk may hear nothing
		c.within("the holder hears SIGTERM", c.tl.heard, c.tl.term, -late, late)
		c.within("the holder ends", c.tl.died, c.tl.term, -late, grace+late)
	}
	if s.holder != polite {
		c.within("SIGKILL", c.tl.killed, c.tl.term, grace-2*early, grace+late)
	}
}
