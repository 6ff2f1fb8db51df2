package sanlockd

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenurelock/tenure/daemon/helper"
	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device"
	"github.com/tenurelock/tenure/leases/device/faulty"
	"github.com/tenurelock/tenure/leases/device/memdisk"
	"github.com/tenurelock/tenure/leases/monotime"
	"github.com/tenurelock/tenure/leases/ondisk"
	"github.com/tenurelock/tenure/lockspace"
)

// hands is a helper that notes what it is told to do.
type hands struct {
	mu   sync.Mutex
	told []string
}

func (h *hands) Signal(p helper.Process, sig syscall.Signal) {
	h.note(fmt.Sprintf("%d to %d", sig, p.PID()))
	_ = p.Signal(sig) // a person of a test takes any
}

func (h *hands) Run(path string, args []string) { h.note(fmt.Sprint(path, args)) }

func (h *hands) Status() helper.Status { return helper.Status{PID: 77, FD: 5, Full: 3, Last: 1001} }

func (h *hands) note(s string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.told = append(h.told, s)
}

func (h *hands) count(s string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, told := range h.told {
		if told == s {
			n++
		}
	}
	return n
}

// wires is what the watchdog hears of one lockspace.
type wires struct {
	mu     sync.Mutex
	lives  []monotime.Seconds // until when
	closed bool
}

func (w *wires) Live(_, expires monotime.Seconds) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return errors.New("told to live after it was closed")
	}
	w.lives = append(w.lives, expires)
	return nil
}

func (w *wires) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	return nil
}

func (w *wires) last() (times int, until monotime.Seconds, closed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.lives), w.lives[len(w.lives)-1], w.closed
}

// twoSpaces starts a host in LS and LT, the second on a disk of its own, with a client of each. The host has a
// helper and a watchdog.
type twoSpaces struct {
	*host
	on       *hands
	wire     map[string]*wires
	a, b     *caller // of LS and LT
	renewed  monotime.Instant
	second   *faulty.Device
	ls, lt   sanlockwire.Lockspace
	leaseOfB sanlockwire.Resource
	mended   device.Device // in place of the first disk once it is not nil: the same without its faults
	plain    device.Device
}

const secondPath = "/dev/second"

func inTwoSpaces(t *testing.T, io uint32) *twoSpaces {
	t.Helper()
	disk := memdisk.New(memdisk.Config{SectorSize: 512, Size: 2 * ondisk.MiB})
	lt := leases.NameOf("LT")
	disk.Poke(0, ondisk.FormatLockspace(grid, lt, uint16(io)))
	disk.Poke(ondisk.MiB, ondisk.FormatResource(grid, lt, leases.NameOf("x1"), 0))
	w := &twoSpaces{on: &hands{}, wire: map[string]*wires{}, second: faulty.Wrap(disk.Open("a"))}
	lsDisk := newDisk(2)
	w.plain = lsDisk.Open("a, mended")
	t.Cleanup(func() { w.plain.Close() })
	w.host = startHost(t, lsDisk, "a", func(c *Config) {
		first := c.Opener
		c.Helper, c.UseWatchdog = w.on, 1
		c.Watchdog = func(space string, _ leases.HostID) (lockspace.Link, error) {
			w.wire[space] = &wires{}
			return w.wire[space], nil
		}
		c.Opener = openerFunc(func(path string) (device.Device, error) {
			if path == secondPath {
				return shared{w.second}, nil
			}
			if w.mended != nil {
				return shared{w.mended}, nil
			}
			return first.Open(path)
		})
	})
	w.ls = spaceAs(1)
	w.lt = sanlockwire.Lockspace{Name: lt, HostID: 1, Disk: sanlockwire.Disk{Path: secondPath}}
	check(t, "add LS", w.onSpace(add, 0, io, w.ls), 0)
	check(t, "add LT", w.onSpace(add, 0, io, w.lt), 0)
	w.a, w.b = w.registered(), w.registered()
	w.leaseOfB = sanlockwire.Resource{
		Space: lt, Name: leases.NameOf("x1"), Disks: []sanlockwire.Disk{{Path: secondPath, Offset: ondisk.MiB}},
	}
	check(t, "acquire", w.a.acquire(0, lease(1, 0)), 0)
	check(t, "acquire of LT", w.b.acquire(0, w.leaseOfB), 0)
	for w.renewed = w.space("LS").ls.Renewed(); w.space("LS").ls.Renewed() == w.renewed; {
		time.Sleep(time.Second / 4)
	}
	w.renewed = w.space("LS").ls.Renewed()
	return w
}

type openerFunc func(string) (device.Device, error)

func (f openerFunc) Open(path string) (device.Device, error) { return f(path) }

func (w *twoSpaces) space(name string) *space {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	return w.s.active(leases.NameOf(name))
}

// until sleeps until so many seconds after the last renewal.
func (w *twoSpaces) until(seconds float64) {
	time.Sleep(time.Duration(seconds*float64(time.Second)) - w.s.cfg.Clock.Now().Sub(w.renewed))
}

// TestStorageCut cuts one of two lockspaces off, by failure and by hanging, and looks at the seconds before
// and after each step. The holder of the other one and who asks for the status notice nothing.
func TestStorageCut(t *testing.T) {
	for _, io := range []uint32{2, 5, 10} {
		for _, hangs := range []bool{false, true} {
			t.Run(fmt.Sprintf("io_timeout %d, hangs %t", io, hangs), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { cutOff(t, inTwoSpaces(t, io), float64(8*io), hangs) })
			})
		}
	}
}

func cutOff(t *testing.T, w *twoSpaces, fail float64, hangs bool) {
	gate := faulty.NewGate()
	action := faulty.Fail(nil)
	if hangs {
		action = faulty.Stall(gate)
	}
	w.dev.Add(faulty.On(faulty.Any, action))
	term, kill := fmt.Sprintf("15 to %d", w.a.who.number), fmt.Sprintf("9 to %d", w.a.who.number)
	steps := func(at float64, terms, kills int) {
		t.Helper()
		w.until(at)
		if gotTerm, gotKill := w.on.count(term), w.on.count(kill); gotTerm != terms || gotKill != kills {
			t.Errorf("%.1f s after the last renewal: %d SIGTERM and %d SIGKILL, want %d and %d",
				at, gotTerm, gotKill, terms, kills)
		}
	}
	steps(fail-0.5, 0, 0)
	w.answersAtOnce(t)
	steps(fail+0.5, 1, 0)
	steps(fail+1.5, 2, 0)
	check(t, "acquire", w.registered().acquire(0, lease(2, 0)), -28)
	steps(fail+39.5, 40, 0)
	w.answersAtOnce(t)
	steps(fail+40.5, 40, 1)
	steps(fail+49.5, 40, 10)
	// A holder that does not die: the watchdog hears nothing more, and is not told that all is well.
	times, until, closed := w.wire["LS"].last()
	if want := w.renewed.Seconds() + monotime.Seconds(fail); until != want || closed {
		t.Errorf("the watchdog was told %d times, last until %d, closed %t; want until %d", times, until, closed, want)
	}
	w.a.Close()
	w.until(fail + 52)
	if _, _, closed := w.wire["LS"].last(); !closed {
		t.Error("nobody holds anything, but the watchdog still watches")
	}
	w.answersAtOnce(t)
	if _, until, closed := w.wire["LT"].last(); closed || until <= w.s.cfg.Clock.Now().Seconds() {
		t.Errorf("the other lockspace: watchdog until %d, closed %t", until, closed)
	}
	if got := w.b.who.signals(); len(got) > 0 || w.space("LT").isOver() {
		t.Errorf("the holder on the other lockspace was sent %v", got)
	}
	check(t, "release on the other lockspace", w.b.release(w.leaseOfB), 0)
	gate.Release()
	if !hangs {
		w.mended = w.plain
	}
	check(t, "inq", w.onSpace(inq, 0, 0, w.ls), -2)
	began := time.Now()
	check(t, "join again", w.onSpace(add, 0, uint32(fail/8), w.ls), 0)
	if took := time.Since(began).Seconds(); took > fail/2 {
		t.Errorf("joined again after %.0f s", took)
	}
	check(t, "acquire again", w.registered().acquire(0, lease(1, 0)), 0)
}

// TestStorageThatReturns when the lockspace is lost already changes nothing: nobody is told that this host
// lives on, and its holders are stopped as if the storage were gone.
func TestStorageThatReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := inTwoSpaces(t, 2)
		gate := faulty.NewGate()
		w.dev.Add(faulty.On(faulty.Any, faulty.Stall(gate)))
		w.until(16 + 5)
		gate.Release()
		w.until(16 + 39.5)
		if got := w.on.count(fmt.Sprintf("9 to %d", w.a.who.number)); got != 0 {
			t.Errorf("%d SIGKILL in the grace", got)
		}
		w.until(16 + 40.5)
		if got := w.on.count(fmt.Sprintf("9 to %d", w.a.who.number)); got != 1 {
			t.Errorf("%d SIGKILL after the grace, want one: the grace was extended", got)
		}
		if _, until, _ := w.wire["LS"].last(); until != w.renewed.Seconds()+16 {
			t.Errorf("the watchdog was told to wait until %d", until)
		}
		w.a.Close()
		time.Sleep(2 * time.Second)
		check(t, "inq", w.onSpace(inq, 0, 0, w.ls), -2)
	})
}

// answersAtOnce: no command that needs no storage of a lockspace waits for it.
func (w *twoSpaces) answersAtOnce(t *testing.T) {
	t.Helper()
	began := time.Now()
	p := w.dial()
	p.send(sanlockwire.CmdStatus, 0, 0, 0, nil)
	if text := string(p.rest()); !strings.Contains(text, "helper_pid=77 helper_kill_fd=5 helper_full_count=3 "+
		"helper_last_status=1001") {
		t.Errorf("status: %q", text)
	}
	check(t, "inq", w.onSpace(inq, 0, 0, w.lt), 0)
	if took := time.Since(began); took > 0 {
		t.Errorf("status took %v", took)
	}
}

// TestUsedKeepsALostLockspace: neither its users' end nor the storage's return ends it, and the watchdog
// is left to expire.
func TestUsedKeepsALostLockspace(t *testing.T) {
	for _, c := range []struct {
		name        string
		set, unset  uint32
		orphan      bool
		want        string
		keptForever bool
	}{
		{"used", sanlockwire.ConfigUsed, sanlockwire.ConfigUnused, false, "used external blocking", true},
		{
			"used by orphans", sanlockwire.ConfigUsedByOrphans, sanlockwire.ConfigUnusedByOrphans,
			true, "used by orphan", true,
		},
		{"no orphan", sanlockwire.ConfigUsedByOrphans, sanlockwire.ConfigUnusedByOrphans, false, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := inTwoSpaces(t, 2)
				check(t, "config", w.onSpace(sanlockwire.CmdSetConfig, 0, c.set, w.ls), 0)
				if c.orphan {
					p := w.registered()
					check(t, "orphan", p.acquire(0, lease(2, persistent)), 0)
					p.Close()
					synctest.Wait()
				}
				w.dev.Add(faulty.On(faulty.Any, faulty.Fail(nil)))
				w.a.Close()
				time.Sleep(5 * time.Minute)
				_, _, closed := w.wire["LS"].last()
				kept := w.onSpace(inq, 0, 0, w.ls) == 0
				if kept != c.keptForever || closed == kept {
					t.Errorf("kept %t, watchdog closed %t", kept, closed)
				}
				if c.want != "" && !strings.Contains(w.log.String(), c.want) {
					t.Errorf("the log has no line %q", c.want)
				}
				if kept {
					check(t, "config", w.onSpace(sanlockwire.CmdSetConfig, 0, c.unset, w.ls), 0)
					time.Sleep(3 * time.Second)
				}
				check(t, "inq", w.onSpace(inq, 0, 0, w.ls), -2)
			})
		})
	}
}

// TestWatchdogThatDies: a lockspace whose watchdog cannot be told any more is lost, the other one is not.
func TestWatchdogThatDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := inTwoSpaces(t, 2)
		if err := w.wire["LS"].Close(); err != nil { // from then on Live is an error
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if got := w.a.who.signals(); !slices.ContainsFunc(got, func(s string) bool { return s[:2] == "15" }) {
			t.Errorf("its holder was sent %v, want SIGTERM", got)
		}
		if got := w.b.who.signals(); len(got) > 0 {
			t.Errorf("the holder on the other lockspace was sent %v", got)
		}
		w.a.Close()
	})
}

// TestOpenThatHangs: a path that does not answer is an error after an io_timeout, and delays nobody else.
func TestOpenThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		h := startHost(t, newDisk(2), "a", func(c *Config) {
			first := c.Opener
			c.Opener = openerFunc(func(path string) (device.Device, error) {
				if path != diskPath {
					<-hang
				}
				return first.Open(path)
			})
		})
		h.join(1)
		dead := sanlockwire.Lockspace{Name: leases.NameOf("X"), HostID: 1, Disk: sanlockwire.Disk{Path: "/dead"}}
		began := time.Now()
		check(t, "add", h.onSpace(add, 0, 3, dead), -202)
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("took %v, want an io_timeout", took)
		}
		a, b := h.registered(), h.registered()
		r := lease(1, 0)
		r.Disks[0].Path = "/dead"
		a.send(sanlockwire.CmdAcquire, 0, 1, self, acquireBody(r))
		check(t, "acquire elsewhere", b.acquire(0, lease(2, 0)), 0)
		began = time.Now()
		if got, _ := a.answer(); got.Result() != -202 || time.Since(began) != testIO*time.Second {
			t.Errorf("acquire on a path that hangs: %d after %v", got.Result(), time.Since(began))
		}
		p := h.dial()
		p.send(add, 0, 100, 0, dead.Append(nil))
		time.Sleep(time.Second)
		check(t, "rem while it is opened", h.onSpace(rem, 0, 0, dead), 0)
		if r, _ := p.answer(); r.Result() != -1 {
			t.Errorf("add that was undone: %d, want -1", r.Result())
		}
		close(hang)
	})
}
