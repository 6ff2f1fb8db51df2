package vmtest

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
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
	holder         manner
	library        string // what the holder calls to protect itself: a flag of it
	fault          func(*cluster) error
	ends           end
	thaw           func(*cluster) error // after the grant
	rejoin         bool                 // the host comes back after the grant
	races          bool                 // the holder may write before it is killed
}

// manner is what a holder does when it is told to end.
type manner string

// The manners.
const (
	polite   manner = "polite"   // ends
	stubborn manner = "stubborn" // does not by SIGTERM
	stuck    manner = "stuck"    // cannot: it waits for a disk that hangs, where no signal reaches it
)

func (s *scenario) flags() string {
	if s.holder == stubborn {
		return "-ignore-term " + s.library
	}
	return s.library
}

// end is what ends the old holder.
type end int

// The ends.
const (
	byCut      end = iota // the fault itself
	bySignal              // the lease daemon
	byWatchdog            // the reset, because the lease ran out
	byUnpetted            // the reset, because nobody pets the watchdog, while renewals may go on
	byNothing             // nothing that could be relied upon: its clocks stood still
)

// The intervals of stock: what a host may do after its last renewal.
func (s *scenario) expires() time.Duration  { return time.Duration(8*s.io) * time.Second }
func (s *scenario) dead() time.Duration     { return s.expires() + fire }
func (s *scenario) interval() time.Duration { return time.Duration(2*s.io) * time.Second }

const (
	fire  = 60 * time.Second // the watchdog's
	grace = 40 * time.Second // from SIGTERM to SIGKILL
)

// limit bounds a scenario: boot, join, wait, and machines that have to share their host.
func (s *scenario) limit() time.Duration { return 6*time.Minute + 2*s.dead() }

// margin is the least time from the end of the old holder to the grant, as the intervals have it: the grant comes
// dead after the last renewal at the earliest, the signals and the reset at most so long after it.
func (s *scenario) margin() time.Duration {
	switch {
	case s.ends == bySignal && s.holder == polite:
		return s.dead() - s.expires() - late - early
	case s.ends == bySignal:
		return s.dead() - s.expires() - grace - late - early
	case s.ends == byUnpetted:
		// The reset comes at most fire after the fault, and the last renewal, at the earliest, an interval before it.
		return s.dead() - fire - s.interval() - late
	}
	return 0
}

func fail(c *cluster) error   { return c.lost().DiskFail(c.ctx, leaseDisk) }
func unplug(c *cluster) error { return c.lost().DiskUnplug(c.ctx, leaseDisk) }
func cut(c *cluster) error    { return c.lost().Cut() }
func thaw(c *cluster) error   { return c.lost().Thaw() }
func pause(c *cluster) error  { return c.lost().Pause(c.ctx) }
func resume(c *cluster) error { return c.lost().Resume(c.ctx) }

// hang also makes the one transfer that still passes, so that it is a read that hangs next. A write would reach the
// disk when the machine is reset, which is harmless and takes another minute.
func hang(c *cluster) error {
	if err := c.lost().DiskHang(c.ctx, leaseDisk); err != nil {
		return err
	}
	_, err := c.lost().Do(c.ctx, "dd if="+space(0).device()+" of=/dev/null bs=4096 count=1 iflag=direct")
	return err
}

// freeze stops a host whose holder is about to write a record, but has not yet asked whether it may: nothing can stop one
// that is on its way to the disk. The host's clock has to be one that runs on.
func freeze(c *cluster) error {
	c.must(1, "grep -q ^tsc /sys/devices/system/clocksource/clocksource0/current_clocksource")
	told := time.Now()
	if err := c.running["vm1 "+holderSource(0)].Signal(syscall.SIGUSR1); err != nil {
		return err
	}
	c.wait(vm.Match{Machine: 1, Source: holderSource(0), Text: "rests", Since: told})
	return c.lost().Freeze()
}

// stick lets the holder wait for its disk before the leases' disk is lost.
func stick(then func(*cluster) error) func(*cluster) error {
	return func(c *cluster) error { return errors.Join(c.lost().DiskHang(c.ctx, recordDisk), then(c)) }
}

// signal sends a signal to daemons of the lost host.
func signal(sig syscall.Signal, names ...string) func(*cluster) error {
	return func(c *cluster) error {
		var errs []error
		for _, name := range names {
			errs = append(errs, c.running["vm1 "+name].Signal(sig))
		}
		return errors.Join(errs...)
	}
}

// faults are the ways to lose a host, each with what must come of it. The slow ones come first.
func faults() []scenario {
	all := []scenario{
		{name: "cut-io10", io: 10, fault: cut, ends: byCut},
		{name: "hang-stuck-io10", io: 10, fault: stick(hang), holder: stuck, ends: byWatchdog},
		{name: "freeze-i6300esb-check", watchdog: vm.I6300ESB, fault: freeze, thaw: thaw, ends: byNothing, library: "-guard"},
		{name: "freeze-i6300esb-timer", watchdog: vm.I6300ESB, fault: freeze, thaw: thaw, ends: byNothing, library: "-enforce"},
		{name: "freeze", fault: freeze, thaw: thaw, ends: byNothing},
		{name: "cut", fault: cut, ends: byCut, rejoin: true},
	}
	for _, storage := range []struct {
		name string
		lose func(*cluster) error
	}{{"errors", fail}, {"hang", hang}, {"unplug", unplug}} {
		for _, m := range []manner{polite, stubborn, stuck} {
			s := scenario{name: fmt.Sprintf("%s-%s", storage.name, m), fault: storage.lose, holder: m, ends: bySignal}
			if m == stuck {
				s.fault, s.ends = stick(storage.lose), byWatchdog
			}
			if s.name == "errors-polite" {
				s.sector = 4096
			}
			all = append(all, s)
		}
	}
	all = append(all,
		scenario{name: "hang-stuck-i6300esb", watchdog: vm.I6300ESB, fault: stick(hang), holder: stuck, ends: byWatchdog})
	for _, s := range []struct {
		name string
		sig  syscall.Signal
	}{{"killed", syscall.SIGKILL}, {"stopped", syscall.SIGSTOP}} {
		all = append(all,
			scenario{name: "sanlock-" + s.name, fault: signal(s.sig, "sanlock"), ends: byWatchdog},
			scenario{name: "wdmd-" + s.name, fault: signal(s.sig, "wdmd"), ends: byUnpetted},
			scenario{name: "both-" + s.name, fault: signal(s.sig, "sanlock", "wdmd"), ends: byWatchdog})
	}
	for i := range all {
		all[i].fill()
	}
	return all
}

// unguarded is a host with an i6300esb that stands still, and whose holder relies on the signals alone.
func unguarded() scenario {
	s := scenario{name: "freeze-i6300esb", watchdog: vm.I6300ESB, fault: freeze, thaw: thaw, ends: byNothing, races: true}
	s.fill()
	return s
}

// fill completes a scenario by what most have.
func (s *scenario) fill() {
	if s.io == 0 {
		s.io = 2
	}
	if s.sector == 0 {
		s.sector = 512
	}
	if s.watchdog == vm.NoWatchdog {
		s.watchdog = vm.Softdog
	}
	if s.holder == "" {
		s.holder = polite
	}
}

// chosen are the faults that are named, or all.
func chosen(names ...string) []scenario {
	return slices.DeleteFunc(faults(), func(s scenario) bool {
		return len(names) > 0 && !slices.Contains(names, s.name)
	})
}
