package vmtest

import (
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/tenurelock/tenure/tools/rig/vm"
)

// timeline is when what happened; a zero time means never.
type timeline struct {
	fault    time.Time
	renewed  time.Time // the last change of vm1's sector on the disk
	landed   time.Time // a renewal that the disk had held comes to it after all
	failed   time.Time // vm1's daemon sees that it does not renew
	aging    time.Time // vm1's daemon first warns that the lease runs out
	warned   time.Time // vm1's wdmd pets no more, or lets the watchdog run out
	term     time.Time // vm1's daemon sends the first SIGTERM
	heard    time.Time // vm1's holder says that it got it, which it cannot while its thread waits for the disk
	killed   time.Time // vm1's daemon sends SIGKILL
	died     time.Time // vm1's holder is gone, otherwise than by the reset
	lastPet  time.Time // by vm1's wdmd, or by the kernel when wdmd gives the watchdog up
	lastData time.Time // the last record that vm1's holder wrote
	reset    time.Time
	granted  time.Time // vm2 has the lease
	back     time.Time // vm1 runs again, in scenarios where it stood still

	afterGrant []vm.Line // what vm1's holder wrote after that
	harm       []vm.Line // what holders found that should not be
}

// ended is in the line that says that a spawned command is gone.
const ended = "(ended with code"

// read fills in what the log and the disk tell.
func (tl *timeline) read(c *cluster, r *renewals) {
	log := c.rig.Log()
	first := func(m vm.Match) time.Time {
		m.Machine, m.Since = 1, tl.fault
		if lines := log.Find(m); len(lines) > 0 {
			return lines[0].At
		}
		return time.Time{}
	}
	last := func(m vm.Match) time.Time {
		m.Machine = 1
		if lines := log.Find(m); len(lines) > 0 {
			return lines[len(lines)-1].At
		}
		return time.Time{}
	}
	tl.failed = first(vm.Match{Source: "sanlock", Text: "renewal error"})
	if tl.failed.IsZero() {
		tl.failed = first(vm.Match{Source: "sanlock", Text: "aio timeout"})
	}
	tl.aging = first(vm.Match{Source: "sanlock", Text: "check_our_lease warning"})
	tl.warned = first(vm.Match{Source: "wdmd", Text: "unclean"})
	tl.term = first(vm.Match{Source: "sanlock", Text: "sig 15"})
	tl.heard = first(vm.Match{Source: "holder", Text: "got SIGTERM"})
	tl.killed = first(vm.Match{Source: "sanlock", Text: "sig 9"})
	tl.lastPet = last(vm.Match{Source: "wdmd", Text: "closed unclean"})
	tl.died = first(vm.Match{Source: "holder", Text: ended})
	tl.lastData = last(vm.Match{Source: "holder", Text: "wrote "})
	for _, reset := range c.rig.Machine(1).Resets() {
		if strings.Contains(reset.Text, "guest-reset") {
			tl.reset = reset.At
			break
		}
	}
	if tl.renewed.IsZero() {
		tl.renewed, tl.landed = r.until(tl.reset)
	}
	tl.afterGrant = log.Find(vm.Match{Machine: 1, Source: "holder", Text: "wrote ", Since: tl.granted})
	tl.harm = append(log.Find(vm.Match{Source: "holder", Text: "HARM"}), log.Find(vm.Match{Source: "holder", Text: "LOST"})...)
}

// over is when the old holder was over, whatever ended it.
func (tl *timeline) over(s *scenario) time.Time {
	if s.ends == byCut {
		return tl.fault
	}
	if tl.died.After(tl.reset) || tl.reset.After(tl.granted) {
		return tl.died
	}
	return tl.reset
}

// since is a time in seconds from the fault, or "-".
func (tl *timeline) since(at time.Time) string {
	if at.IsZero() {
		return "-"
	}
	return fmt.Sprintf("%.1f", at.Sub(tl.fault).Seconds())
}

// String is the timeline as a table, in the order in which things happened.
func (tl *timeline) String() string {
	rows := []struct {
		at   time.Time
		what string
	}{
		{tl.renewed, "vm1's last renewal is on the disk"},
		{tl.fault, "the fault"},
		{tl.failed, "vm1's lease daemon sees that a renewal failed"},
		{tl.aging, "vm1's lease daemon warns that the lease runs out"},
		{tl.warned, "vm1's wdmd lets the watchdog run"},
		{tl.lastPet, "vm1's wdmd last pets the watchdog"},
		{tl.lastData, "vm1's holder last writes"},
		{tl.term, "vm1's lease daemon sends SIGTERM"},
		{tl.heard, "vm1's holder hears it"},
		{tl.killed, "vm1's lease daemon sends SIGKILL"},
		{tl.died, "vm1's holder is gone"},
		{tl.reset, "vm1 is reset"},
		{tl.landed, "a write of vm1's that hung is on the disk"},
		{tl.granted, "vm2 is granted the lease"},
		{tl.back, "vm1 runs again"},
	}
	sort.SliceStable(rows, func(i, j int) bool { return rows[i].at.Before(rows[j].at) })
	var text strings.Builder
	for _, r := range rows {
		if !r.at.IsZero() {
			fmt.Fprintf(&text, "\n%8s  %s", tl.since(r.at), r.what)
		}
	}
	for _, margin := range []struct {
		from time.Time
		what string
	}{{tl.died, "the holder's end"}, {tl.reset, "the reset"}} {
		if !margin.from.IsZero() && tl.back.IsZero() {
			fmt.Fprintf(&text, "\n%8.1f  margin from %s to the grant", tl.granted.Sub(margin.from).Seconds(), margin.what)
		}
	}
	fmt.Fprintf(&text, "\n%8d  records of vm1 after the grant, %d findings of the holders", len(tl.afterGrant), len(tl.harm))
	return text.String()
}
