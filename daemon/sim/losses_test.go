package sim_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenurelock/tenure/daemon/sim"
	"github.com/tenurelock/tenure/leases/timeouts"
	"github.com/tenurelock/tenure/watchdog"
)

// loss is one way in which host a loses what it has.
type loss struct {
	name   string
	io     int // io_timeout, seconds
	manner sim.Manner
	do     func(*sim.Host)

	end     end
	signals signals
}

// end is what becomes of the machine.
type end uint8

const (
	lives   end = iota // it goes on without its holder
	gone               // with the loss
	expires            // its watchdog runs out because the lease was not renewed
	dropped            // its watchdog runs out because it was closed with the loss
	starves            // its watchdog runs out because it is not petted from the loss on
)

// signals are what the holder is sent.
type signals uint8

const (
	nothing   signals = iota
	terms             // SIGTERM when the lease expires
	termKills         // that, and SIGKILL when the grace is over
	early             // SIGTERM at the next renewal, when the lease daemon hears of the loss
)

// timeline is what one virtual machine of tools/vmtest/TIMELINES.md did after a loss right after a renewal, in
// seconds since the loss; 0: nothing.
type timeline struct{ term, kill, reset float64 }

// vm has all machines that were lost with our programs on them, and what mixed pairs and Debian's have of the
// same kind: the signals of any lease daemon, and the resets of our wdmd. Those of Debian's after a lease has
// expired lie up to ten seconds earlier, for ours looks each second at such short leases.
var vm = map[string][]timeline{
	"disk fails, io 2, polite": {
		{term: 15.4},                             // ours
		{term: 15.3}, {term: 16.2}, {term: 15.9}, // ours over Debian's wdmd, Debian's over ours, Debian's
		{term: 15.3}, // Debian's, the survivor's too
	},
	"disk fails, io 2, stubborn": {{term: 15.6, kill: 55.4}, {term: 15.2, kill: 55.2}}, // two of ours
	"disk fails, io 2, stuck":    {{term: 14.9, kill: 55.0, reset: 74.0}},
	"disk hangs, io 2, polite":   {{term: 15.7}},
	"disk hangs, io 2, stubborn": {{term: 15.0, kill: 55.2}},
	"disk hangs, io 2, stuck": {
		{term: 15.7, kill: 55.8, reset: 74.8}, {term: 15.1, kill: 55.2, reset: 74.1}, // two of ours
		{term: 16.0, kill: 56.3, reset: 75.2},                           // i6300esb
		{term: 14.8, kill: 55.0}, {term: 16.1, kill: 55.2, reset: 74.0}, // over Debian's wdmd, under ours
		{term: 16.1, kill: 55.7}, {term: 15.9, kill: 55.1}, // Debian's
	},
	"disk hangs, io 10, stuck":              {{term: 78.9, kill: 119.1, reset: 135.4}},
	"disk unplugged, io 2, polite":          {{term: 15.8}},
	"disk unplugged, io 2, stubborn":        {{term: 15.2, kill: 55.4}, {term: 15.5, kill: 55.1}}, // and Debian's
	"disk unplugged, io 2, stuck":           {{term: 15.2, kill: 55.3, reset: 74.1}},
	"lease daemon killed, io 2, polite":     {{reset: 74.3}, {reset: 74.2}}, // Debian's under our wdmd
	"lease daemon stopped, io 2, polite":    {{reset: 74.9}},
	"watchdog daemon killed, io 2, polite":  {{term: 4.3, reset: 60.0}, {term: 4.4, reset: 60.1}, {reset: 60.1}},
	"watchdog daemon stopped, io 2, polite": {{reset: 59.8}},
	"both daemons killed, io 2, polite":     {{reset: 60.0}},
	"both daemons stopped, io 2, polite":    {{reset: 59.7}},
}

// In seconds since the last renewal, with io_timeout 2: of all scenarios above, it depends on when the other
// host looks.
const (
	vmGrantEarliest = 76.9
	vmGrantLatest   = 84.3
)

var losses = []loss{
	{"power cut", 2, sim.Polite, (*sim.Host).CutPower, gone, nothing},
	{"power cut", 10, sim.Polite, (*sim.Host).CutPower, gone, nothing},
	{"disk fails", 2, sim.Polite, (*sim.Host).FailDisk, lives, terms},
	{"disk fails", 2, sim.Stubborn, (*sim.Host).FailDisk, lives, termKills},
	{"disk fails", 2, sim.Stuck, (*sim.Host).FailDisk, expires, termKills},
	{"disk fails", 10, sim.Polite, (*sim.Host).FailDisk, lives, terms},
	{"disk fails", 10, sim.Stubborn, (*sim.Host).FailDisk, lives, termKills},
	{"disk fails", 10, sim.Stuck, (*sim.Host).FailDisk, expires, termKills},
	{"disk hangs", 2, sim.Polite, (*sim.Host).HangDisk, lives, terms},
	{"disk hangs", 2, sim.Stubborn, (*sim.Host).HangDisk, lives, termKills},
	{"disk hangs", 2, sim.Stuck, (*sim.Host).HangDisk, expires, termKills},
	{"disk hangs", 10, sim.Polite, (*sim.Host).HangDisk, lives, terms},
	{"disk hangs", 10, sim.Stubborn, (*sim.Host).HangDisk, lives, termKills},
	{"disk hangs", 10, sim.Stuck, (*sim.Host).HangDisk, expires, termKills},
	{"disk hangs for 20 s", 2, sim.Stuck, tooLong, expires, termKills},
	{"disk hangs, watchdog daemon killed", 2, sim.Stuck, hangAndKill, expires, termKills},
	{"disk unplugged", 2, sim.Polite, (*sim.Host).UnplugDisk, lives, terms},
	{"disk unplugged", 2, sim.Stubborn, (*sim.Host).UnplugDisk, lives, termKills},
	{"disk unplugged", 2, sim.Stuck, (*sim.Host).UnplugDisk, expires, termKills},
	{"disk unplugged", 10, sim.Stuck, (*sim.Host).UnplugDisk, expires, termKills},
	{"frozen", 2, sim.Polite, (*sim.Host).Freeze, starves, nothing},
	{"lease daemon killed", 2, sim.Polite, (*sim.Host).KillLeaseDaemon, expires, nothing},
	{"lease daemon killed", 10, sim.Polite, (*sim.Host).KillLeaseDaemon, expires, nothing},
	{"lease daemon stopped", 2, sim.Polite, (*sim.Host).StopLeaseDaemon, expires, nothing},
	{"lease daemon stopped", 10, sim.Polite, (*sim.Host).StopLeaseDaemon, expires, nothing},
	{"watchdog daemon killed", 2, sim.Polite, (*sim.Host).KillWatchdogDaemon, dropped, early},
	{"watchdog daemon killed", 2, sim.Stuck, (*sim.Host).KillWatchdogDaemon, dropped, early},
	{"watchdog daemon killed", 10, sim.Stuck, (*sim.Host).KillWatchdogDaemon, dropped, early},
	{"watchdog daemon stopped", 2, sim.Polite, (*sim.Host).StopWatchdogDaemon, starves, nothing},
	{"watchdog daemon stopped", 10, sim.Polite, (*sim.Host).StopWatchdogDaemon, starves, nothing},
	{"both daemons killed", 2, sim.Polite, (*sim.Host).KillBoth, dropped, nothing},
	{"both daemons killed", 10, sim.Polite, (*sim.Host).KillBoth, dropped, nothing},
	{"both daemons stopped", 2, sim.Polite, (*sim.Host).StopBoth, starves, nothing},
	{"both daemons stopped", 10, sim.Polite, (*sim.Host).StopBoth, starves, nothing},
}

// tooLong hangs the disk until after the lease has expired. What is renewed then brings nothing back.
func tooLong(h *sim.Host) {
	h.HangDisk()
	time.AfterFunc(20*time.Second, h.HealDisk)
}

// hangAndKill hangs the disk, and kills the watchdog daemon when the lease has expired: the kernel pets a
// watchdog that is open then, which would be too late.
func hangAndKill(h *sim.Host) {
	h.HangDisk()
	time.AfterFunc(20*time.Second, h.KillWatchdogDaemon)
}

// phases are times from a renewal to the loss: right after it, and right before the next.
func (l loss) phases() []time.Duration {
	return []time.Duration{300 * time.Millisecond, time.Duration(2*l.io) * time.Second}
}

// TestLosses: however host a is lost, its holder has ended before host b is granted the lease; and
// everything comes when the spec has it (sanlock-daemon 2.9 and 3.8, ondisk 3.8) and when it came in
// virtual machines.
func TestLosses(t *testing.T) {
	for _, l := range losses {
		for i, phase := range l.phases() {
			t.Run(fmt.Sprintf("%s, io %d, %v, phase %d", l.name, l.io, l.manner, i), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { l.play(t, phase) })
			})
		}
	}
}

// story is a loss as it went. Times are since the world's beginning.
type story struct {
	*testing.T
	loss
	w       *sim.World
	a, b    *sim.Host
	times   timeouts.Set
	fault   time.Duration
	renewed time.Duration // the last renewal of a: when it got to the disk
	stamp   time.Duration // and what it says
	granted time.Duration
}

func (l loss) play(t *testing.T, phase time.Duration) {
	w := sim.New(l.io)
	defer w.Close()
	s := &story{T: t, loss: l, w: w, times: timeouts.Set{IO: uint32(l.io), Fire: timeouts.DefaultFire}}
	s.a, s.b = pair(t, w, l.io, 1)
	hold := acquire(t, s.a, 0, l.manner)
	if _, number, err := s.b.Acquire(0, 1, sim.Polite); err != nil || number == 0 {
		t.Fatalf("the other host is answered %d, %v", number, err)
	}
	s.a.AwaitRenewal(0)
	time.Sleep(phase)
	s.fault = w.Now()
	l.do(s.a)
	if err := s.contend(); err != nil {
		t.Errorf("%v\n%s", err, w.Timeline(s.fault))
		return
	}
	s.granted = w.Now()
	last := s.a.Renewals(0)
	s.renewed, s.stamp = last[len(last)-1].At, last[len(last)-1].Stamp
	t.Logf("fault %.1f s after the renewal, margin %.1f s\n%s", s.since(s.renewed, s.fault),
		s.since(hold.Until(), s.granted), w.Timeline(s.fault))
	noBreach(t, w)
	if until := hold.Until(); until == 0 || until >= s.granted {
		t.Errorf("the holder ended at %v, the grant came at %v", until, s.granted)
	}
	s.grant()
	s.told()
	s.reset()
	if phase == l.phases()[0] {
		s.likeVM()
	}
}

// contend has b ask for the lease until it is granted: seldom at first, which finds a grant that comes much
// too early, and then often.
func (s *story) contend() error {
	const often, seldom = 500 * time.Millisecond, 4 * time.Second
	soon := s.times.HostDead() - s.times.Renewal() - often
	if hold, _ := s.b.Insist(0, 1, sim.Polite, seldom, soon); hold != nil {
		return nil
	}
	_, err := s.b.Insist(0, 1, sim.Polite, often, 3*s.times.HostDead())
	return err
}

func (s *story) since(from, to time.Duration) float64 { return (to - from).Seconds() }

// within checks that something came between two times after the last renewal.
func (s *story) within(what string, at, from, to time.Duration) {
	s.Helper()
	if at < from || at > to {
		s.Errorf("%s came %.1f s after the last renewal, want %.1f to %.1f", what,
			s.since(s.renewed, at), s.since(s.renewed, from), s.since(s.renewed, to))
	}
}

// grant checks that the grant came after host_dead, counted from when b can have seen the last renewal at
// the earliest, and a renewal of b, its look, and the pause between two requests later at most.
func (s *story) grant() {
	const look = 2 * time.Second
	from := s.renewed + s.times.HostDead()
	s.within("grant", s.granted, from, from+s.times.Renewal()+look)
}

// told checks the signals: they come by the clock that started before the last renewal's write, within a
// second.
func (s *story) told() {
	const slack = 1200 * time.Millisecond
	fail := s.stamp + s.times.RenewalFail()
	at, came := s.w.Find("a", "terminated", s.fault)
	switch {
	case came != (s.signals != nothing):
		s.Errorf("SIGTERM came: %v", came)
	case s.signals == terms, s.signals == termKills:
		s.within("SIGTERM", at, fail, fail+slack)
	case s.signals == early:
		s.within("SIGTERM", at, s.fault, s.fault+s.times.Renewal()+2*time.Second)
	}
	at, came = s.w.Find("a", "killed", s.fault)
	if s.signals != early && came != (s.signals == termKills) { // early: the reset may come before it
		s.Errorf("SIGKILL came: %v", came)
	}
	if came {
		from := s.stamp + s.times.KillFrom()
		s.within("SIGKILL", at, from, from+slack)
	}
}

// reset checks when the machine was reset, if at all, and that its watchdog was not what saved it
// otherwise.
func (s *story) reset() {
	const guard = 500 * time.Millisecond // what a decision allows for itself
	const late = 10*time.Second + guard
	at, came := s.w.Find("a", "reset", s.fault)
	if want := s.end != lives && s.end != gone; came != want {
		s.Errorf("reset: %v, want %v", came, want)
	}
	fire := watchdog.DefaultFire
	expire := s.stamp + s.times.RenewalFail()
	switch {
	case !came:
	case s.end == expires:
		s.within("reset", at, expire+fire-late, expire+fire-guard)
	case s.end == dropped:
		s.within("reset", at, s.fault+fire, s.fault+fire)
	case s.end == starves:
		s.within("reset", at, s.fault+fire-late, s.fault+fire)
	}
}

// likeVM compares with the virtual machines.
func (s *story) likeVM() {
	const agree = 2 * time.Second
	seconds := func(f float64) time.Duration { return time.Duration(f * float64(time.Second)) }
	for _, vm := range vm[fmt.Sprintf("%s, io %d, %v", s.name, s.io, s.manner)] {
		for _, c := range []struct {
			what string
			want float64
		}{{"terminated", vm.term}, {"killed", vm.kill}, {"reset", vm.reset}} {
			at, _ := s.w.Find("a", c.what, s.fault)
			if got := at - s.fault; c.want != 0 && (got-seconds(c.want)).Abs() > agree {
				s.Errorf("%s came %v after the loss, in a virtual machine after %v s", c.what, got, c.want)
			}
		}
	}
	after := s.granted - s.renewed
	if s.io == 2 && (after < seconds(vmGrantEarliest)-agree || after > seconds(vmGrantLatest)+agree) {
		s.Errorf("grant %v after the last renewal, in virtual machines %v to %v s", after, vmGrantEarliest,
			vmGrantLatest)
	}
}

// TestVMRows: each row is played.
func TestVMRows(t *testing.T) {
	played := map[string]bool{}
	for _, l := range losses {
		played[fmt.Sprintf("%s, io %d, %v", l.name, l.io, l.manner)] = true
	}
	for name := range vm {
		if !played[name] {
			t.Errorf("%s is measured and not played", name)
		}
	}
}

// TestAlone: without a watchdog the signals are all there is, and they come when they came in the virtual machine
// (TestTenureAlone there).
func TestAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := sim.New(2)
		defer w.Close()
		a := join(t, 1, must(w.BootBare("a", 1, 2))(t))
		b := join(t, 1, must(w.BootBare("b", 2, 2))(t))
		acquire(t, a, 0, sim.Stubborn)
		a.AwaitRenewal(0)
		fault := w.Now()
		a.UnplugDisk()
		if _, err := b.Insist(0, 1, sim.Polite, time.Second, 2*time.Minute); err != nil {
			t.Fatal(err)
		}
		noBreach(t, w)
		const agree = 2 * time.Second
		for what, want := range map[string]time.Duration{
			"terminated": 15700 * time.Millisecond, "killed": 55200 * time.Millisecond,
		} {
			at, came := w.Find("a", what, fault)
			if got := at - fault; !came || (got-want).Abs() > agree {
				t.Errorf("%s: %v, %v after the loss, in a virtual machine %v", what, came, got, want)
			}
		}
	})
}
