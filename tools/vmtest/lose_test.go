package vmtest

import (
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/tenurelock/tenure/tools/rig/vm"
)

// scenario is one way to lose the host that holds the lease.
type scenario struct {
	name           string
	lost, survivor programs
	io             int // io_timeout, seconds
	sector         int
	watchdog       vm.Watchdog
	ignoreTerm     bool
	fault          func(*cluster) error
	reset          bool                 // the watchdog must reset the host
	stops          bool                 // the lease daemon must stop the holder with signals
	thaw           func(*cluster) error // after the grant
	rejoin         bool                 // the host comes back after the grant
	harms          bool                 // nothing protects from this: the old holder does write after the grant
}

// The intervals of stock, in seconds of time: what a host may do after its last renewal.
func (s scenario) expires() time.Duration { return time.Duration(8*s.io) * time.Second }
func (s scenario) dead() time.Duration    { return s.expires() + fire }

const (
	fire  = 60 * time.Second // the watchdog's
	grace = 40 * time.Second // from SIGTERM to SIGKILL
)

// limit bounds a scenario: boot, join, wait, and a machine that has to share its host.
func (s scenario) limit() time.Duration { return 4*time.Minute + 2*s.dead() }

func hang(c *cluster) error     { return c.lost().DiskHang(c.ctx, 0) }
func fail(c *cluster) error     { return c.lost().DiskFail(c.ctx, 0) }
func unplug(c *cluster) error   { return c.lost().DiskUnplug(c.ctx, 0) }
func cut(c *cluster) error      { return c.lost().Cut() }
func freeze(c *cluster) error   { return c.lost().Freeze() }
func thaw(c *cluster) error     { return c.lost().Thaw() }
func pause(c *cluster) error    { return c.lost().Pause(c.ctx) }
func resume(c *cluster) error   { return c.lost().Resume(c.ctx) }
func killLock(c *cluster) error { return c.daemon["vm1 sanlock"].Signal(syscall.SIGKILL) }
func killWdmd(c *cluster) error { return c.daemon["vm1 wdmd"].Signal(syscall.SIGKILL) }

// faults are the ways to lose a host, each with what must come of it.
func faults() []scenario {
	base := scenario{io: 2, sector: 512, watchdog: vm.Softdog}
	with := func(name string, f func(*scenario)) scenario {
		s := base
		s.name = name
		f(&s)
		return s
	}
	return []scenario{
		with("cut", func(s *scenario) { s.fault, s.rejoin = cut, true }),
		with("hang", func(s *scenario) { s.fault, s.reset, s.stops = hang, true, true }),
		with("hang-i6300esb", func(s *scenario) { s.fault, s.reset, s.stops, s.watchdog = hang, true, true, vm.I6300ESB }),
		with("fail-4096", func(s *scenario) { s.fault, s.stops, s.sector = fail, true, 4096 }),
		with("fail-ignoring-term", func(s *scenario) { s.fault, s.stops, s.ignoreTerm = fail, true, true }),
		with("unplug", func(s *scenario) { s.fault, s.stops = unplug, true }),
		with("freeze", func(s *scenario) { s.fault, s.thaw = freeze, thaw }),
		with("lease-daemon-killed", func(s *scenario) { s.fault, s.reset = killLock, true }),
		with("watchdog-daemon-killed", func(s *scenario) { s.fault, s.reset = killWdmd, true }),
	}
}

// TestDebian is what the rig and the margins are checked by: the stock programs, lost in every way.
func TestDebian(t *testing.T) { loseAll(t, debian, debian) }

// TestStoppedClock: when all clocks of a host stand still with it, as in a snapshot or a migration, nothing in
// it can notice, and no lease of time protects what it held. So this is where the holders' records must tell
// of harm; if they did not, their silence elsewhere would mean nothing.
func TestStoppedClock(t *testing.T) {
	t.Parallel()
	lose(t, scenario{
		name: "pause", lost: debian, survivor: debian, io: 2, sector: 512, watchdog: vm.Softdog, fault: pause, thaw: resume,
		harms: true,
	})
}

// TestTenure loses a host with our programs; Debian's judge what it left.
func TestTenure(t *testing.T) { loseAll(t, tenure, debian) }

// TestTenureSurvives lets our lease daemon judge what hosts with Debian's left.
func TestTenureSurvives(t *testing.T) { loseAll(t, debian, tenureAlone, "cut", "hang") }

// TestTenureAlone loses hosts with our lease daemon where its signals are enough.
func TestTenureAlone(t *testing.T) {
	loseAll(t, tenureAlone, debian, "cut", "fail-4096", "fail-ignoring-term", "unplug")
}

// TestLeasesOverDebianWatchdog and the next put one of our daemons together with one of Debian's.
func TestLeasesOverDebianWatchdog(t *testing.T) {
	loseAll(t, tenureLeases, tenure, "hang", "lease-daemon-killed", "watchdog-daemon-killed")
}

// TestWatchdogUnderDebianLeases lets Debian's lease daemon rely on our watchdog daemon.
func TestWatchdogUnderDebianLeases(t *testing.T) {
	loseAll(t, tenureWatchdog, debian, "hang", "hang-i6300esb", "lease-daemon-killed", "watchdog-daemon-killed")
}

// loseAll runs the scenarios that are named, or all.
func loseAll(t *testing.T, lost, survivor programs, names ...string) {
	t.Parallel()
	for _, s := range faults() {
		if len(names) > 0 && !slices.Contains(names, s.name) {
			continue
		}
		s.lost, s.survivor = lost, survivor
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			lose(t, s)
		})
	}
}

// lose runs a scenario, prints its timeline and checks it.
func lose(t *testing.T, s scenario) {
	c := startCluster(t, s)
	r := watchRenewals(t, c.disk, 1, s.sector)
	r.next(c.ctx, t)
	time.Sleep(300 * time.Millisecond)
	tl := &timeline{fault: time.Now()}
	if err := s.fault(c); err != nil {
		t.Fatal(err)
	}
	// vm2 asks until it gets the lease.
	c.spawn(2, "holder", fmt.Sprintf("until %s; do sleep 0.2; done", holder(2, "")))
	tl.granted = c.wait(vm.Match{Machine: 2, Source: "holder", Text: "granted", Since: tl.fault}).At
	if s.thaw != nil {
		time.Sleep(3 * time.Second)
		tl.back = time.Now()
		if err := s.thaw(c); err != nil {
			t.Fatal(err)
		}
	}
	c.wait(vm.Match{Machine: 2, Source: "holder", Text: "wrote ", Since: tl.granted})
	time.Sleep(5 * time.Second) // for what an old holder may still do
	tl.read(c, r)
	t.Logf("%s: %s, io_timeout %d, sectors of %d, %s; lost %s, survivor %s%s", t.Name(), s.name, s.io, s.sector,
		s.watchdog, s.lost.name, s.survivor.name, tl)
	tl.check(t, s)
	if s.rejoin {
		c.rejoin()
	}
}

// Bounds on what the clocks of the parties may differ in. Leases count whole seconds, the daemons look once a
// second, and the machines share a slow host.
const (
	early = 1 * time.Second
	late  = 4 * time.Second
)

// check holds a timeline to what leases promise. The first promise is the one that matters: nobody writes
// after another was granted the lease.
func (tl *timeline) check(t *testing.T, s scenario) {
	t.Helper()
	if s.harms {
		if len(tl.afterGrant) == 0 || len(tl.harm) == 0 {
			t.Errorf("%d records of vm1 after the grant and %d findings; want both", len(tl.afterGrant), len(tl.harm))
		}
		return
	}
	for _, l := range tl.afterGrant {
		t.Errorf("vm1 wrote %v after the grant: %s", l.At.Sub(tl.granted), l.Text)
	}
	for _, l := range tl.harm {
		t.Errorf("the holder of vm%d found: %s", l.Machine, l.Text)
	}
	within := func(what string, at, from time.Time, least, most time.Duration) {
		t.Helper()
		if at.IsZero() || from.IsZero() {
			t.Errorf("%s: did not happen, or what it follows did not", what)
		} else if took := at.Sub(from); took < least || took > most {
			t.Errorf("%s: %.1f s after what it follows, want %v to %v", what, took.Seconds(), least, most)
		}
	}
	// The survivor counts from when its own renewal saw the last timestamp, up to one interval later.
	interval := time.Duration(2*s.io) * time.Second
	within("grant", tl.granted, tl.renewed, s.dead()-early, s.dead()+interval+2*late)
	switch {
	case s.thaw != nil:
		within("reset after standing still", tl.reset, tl.back, 0, late)
	case s.reset:
		within("reset", tl.reset, tl.fault, 0, s.dead()+early)
		within("grant after the reset", tl.granted, tl.reset, 0, s.dead()+interval+2*late)
	case !tl.reset.IsZero():
		t.Errorf("vm1 was reset %s s after the fault; nothing called for it", tl.since(tl.reset))
	}
	if !s.stops {
		return
	}
	within("SIGTERM", tl.term, tl.renewed, s.expires()-early, s.expires()+late)
	if s.reset { // the holder waits for its disk and hears nothing
		within("reset", tl.reset, tl.renewed, fire, s.dead()+early)
	} else {
		within("the holder hears SIGTERM", tl.heard, tl.term, -late, late)
	}
	if s.reset || s.ignoreTerm {
		within("SIGKILL", tl.killed, tl.term, grace-2*early, grace+late)
	}
}
