package vmtest

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tenurelock/tenure/tools/rig/vm"
)

// TestOneOfTwoLockspaces: a lockspace whose disk is lost costs the lives of its holders and of nobody else.
func TestOneOfTwoLockspaces(t *testing.T) {
	t.Parallel()
	for _, p := range []programs{tenure, debian} {
		for name, fault := range map[string]func(*cluster) error{"errors": fail, "hang": hang} {
			t.Run(p.short+"-"+name, func(t *testing.T) {
				inBrief(t)
				t.Parallel()
				loseOneOfTwo(t, p, fault)
			})
		}
	}
}

func loseOneOfTwo(t *testing.T, p programs, fault func(*cluster) error) {
	s := scenario{name: "one of two lockspaces", ends: bySignal, lost: p, survivor: debian}
	s.fill()
	c := newCluster(t, shape{machines: 2, disks: 3, io: s.io, sector: s.sector, watchdog: s.watchdog, limit: s.limit()})
	c.daemons(1, p)
	c.daemons(2, debian)
	c.format(0)
	c.format(1)
	c.join([]int{1, 2}, 0, 1)
	c.hold(1, 0, "")
	other := c.hold(1, 1, "")
	r := watchRenewals(t, c.disks[space(0).disk()], 1, s.sector)
	well := watchRenewals(t, c.disks[space(1).disk()], 1, s.sector)
	r.next(c.ctx, t)
	tl := &timeline{fault: time.Now()}
	if err := fault(c); err != nil {
		t.Fatal(err)
	}
	c.takeOver(2, 0)
	tl.granted = c.wait(vm.Match{Machine: 2, Source: "holder", Text: "granted", Since: tl.fault}).At
	tl.read(c, r)
	t.Logf("%s: lost %s%s\n%8d  seconds between renewals of the other lockspace, at most", t.Name(), p.name, tl, well.longest())
	tl.check(t, &s)
	if gap := well.longest(); gap >= uint64(2*s.interval()/time.Second) {
		t.Errorf("the other lockspace was not renewed for %d s", gap)
	}
	failed := vm.Match{Machine: 1, Source: "sanlock", Text: c.numberOf(1) + " renewal error"}
	for _, l := range c.rig.Log().Find(failed) {
		t.Errorf("a renewal of the other lockspace failed: %s", l.Text)
	}
	c.refused(2, 1)
	c.wait(vm.Match{Machine: 1, Source: holderSource(1), Text: "wrote ", Since: tl.granted})
	if other.Ended() {
		t.Error("the holder of the other lockspace has ended")
	}
}

// numberOf returns what vm1's lease daemon calls a lockspace by in its log: s1, s2, …
func (c *cluster) numberOf(s space) string {
	c.Helper()
	added := c.wait(vm.Match{Machine: 1, Source: "sanlock", Text: " lockspace " + s.name() + ":1:"})
	before, _, _ := strings.Cut(added.Text, " lockspace ")
	return before[strings.LastIndex(before, " ")+1:]
}

// TestOverlap lets lockspaces lose their disks in turn, each for less than a lease lasts, so that for more than the
// watchdog's time there is always one whose renewal is late. All recover, so nobody has to be reset; but stock's wdmd
// gives its watchdog up as long as any renewal is late, and the host is.
func TestOverlap(t *testing.T) {
	t.Parallel()
	for name, play := range map[string]func(*testing.T){"disks": overlapOfDisks, "wdmd": overlapOfRenewals} {
		t.Run(name, func(t *testing.T) {
			inBrief(t)
			t.Parallel()
			play(t)
		})
	}
}

// overlapOfRenewals tells Debian's wdmd and ours the same renewals, whose times are right on a busy host too.
func overlapOfRenewals(t *testing.T) {
	programs := []programs{debian, tenure}
	c := newCluster(t, shape{machines: 2, disks: 1, io: 2, sector: 512, watchdog: vm.Softdog, limit: 10 * time.Minute})
	var played [2]*vm.Command
	began := time.Now()
	for i, p := range programs {
		c.startWdmd(i+1, p)
		played[i] = c.spawn(i+1, "renewals", fmt.Sprintf("exec renewals -for %v", 2*fire))
	}
	if code, err := played[1].Wait(c.ctx); code != 0 || err != nil {
		t.Errorf("the renewals that our wdmd was told ended with %d, %v", code, err)
	}
	time.Sleep(fire / 6)
	for i, p := range programs {
		c.tell(i+1, began, p.name+", seconds since wdmd was started",
			"closed unclean", "reopen", "guest-reset", "all are gone")
		if resets := c.rig.Machine(i + 1).Resets(); (p == debian) != (len(resets) > 0) {
			t.Errorf("%s: %d resets; want some: %v", p.name, len(resets), p == debian)
		}
	}
}

// tell logs when each text came first.
func (c *cluster) tell(machine int, since time.Time, title string, texts ...string) {
	c.Helper()
	c.Logf("%s: %s", c.Name(), title)
	for _, text := range texts {
		if found := c.rig.Log().Find(vm.Match{Machine: machine, Text: text, Since: since}); len(found) > 0 {
			c.Logf("%8.1f  %s (%d times)", found[0].At.Sub(since).Seconds(), found[0].Text, len(found))
		}
	}
}

// A disk is away from just after a renewal until it is as old as this, in seconds: stock's wdmd finds it late after
// 6, and it expires after 16.
const awayFor = 12500 * time.Millisecond

// overlapFor is how long the disks come and go.
const overlapFor = fire + 25*time.Second

// overlapOfDisks has our programs and real disks. On a busy machine three lockspaces overlap most of the time where two
// would not.
func overlapOfDisks(t *testing.T) {
	s := scenario{}
	s.fill()
	spaces := []space{0, 1, 2}
	c := newCluster(t, shape{machines: 1, disks: 4, io: s.io, sector: s.sector, watchdog: s.watchdog, limit: s.limit()})
	c.daemons(1, tenure)
	for _, sp := range spaces {
		c.format(sp)
	}
	c.join([]int{1}, spaces...)
	for _, sp := range spaces {
		c.hold(1, sp, "")
	}
	began := time.Now()
	end := began.Add(overlapFor)
	var busy sync.WaitGroup
	for i, sp := range spaces {
		busy.Go(func() {
			time.Sleep(time.Duration(i) * (awayFor + time.Second) / time.Duration(len(spaces)))
			if err := c.comeAndGo(sp, s.sector, end); err != nil && len(c.lost().Resets()) == 0 {
				t.Error(err)
			}
		})
	}
	busy.Wait()
	c.tell(1, began, "seconds since the first disk was lost", "renewal error", "closed unclean", "reopen", "guest-reset")
	for _, l := range c.rig.Log().Find(vm.Match{Machine: 1, Source: "sanlock", Text: "check_our_lease failed"}) {
		t.Fatalf("a lockspace has expired, which it should not: %s", l.Text)
	}
	if resets := c.lost().Resets(); len(resets) > 0 {
		t.Errorf("%d resets", len(resets))
	}
	if late := c.rig.Log().Find(vm.Match{Machine: 1, Source: "sanlock", Text: "renewal error", Since: began}); len(late) == 0 {
		t.Error("no renewal failed: this shows nothing")
	}
}

// comeAndGo takes a lockspace's disk away after a renewal and gives it back before the lease is over, until end.
func (c *cluster) comeAndGo(sp space, sector int, end time.Time) error {
	r := watchRenewals(c.T, c.disks[sp.disk()], 1, sector)
	for time.Now().Before(end) && len(c.lost().Resets()) == 0 {
		before := r.at()
		for r.at().Equal(before) && time.Now().Before(end) && len(c.lost().Resets()) == 0 {
			time.Sleep(watchEvery)
		}
		if err := c.lost().DiskFail(c.ctx, sp.disk()); err != nil {
			return fmt.Errorf("take the disk of %s away: %w", sp.name(), err)
		}
		time.Sleep(time.Until(r.at().Add(awayFor)))
		if err := c.lost().DiskOK(c.ctx, sp.disk()); err != nil {
			return fmt.Errorf("give the disk of %s back: %w", sp.name(), err)
		}
	}
	return nil
}
