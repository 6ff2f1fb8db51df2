package sanlockd

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases/device/faulty"
	"github.com/tenurelock/tenure/leases/ondisk"
)

type syscallSignal = syscall.Signal

// ladder returns what a client is sent when a signal comes each second from first to before last.
func ladder(sig, first, last int) []string {
	var all []string
	for second := first; second < last; second++ {
		all = append(all, fmt.Sprintf("%d@%d", sig, second))
	}
	return all
}

// failing starts a host whose client holds r1, cuts its disk off right after a renewal, and returns both and
// the second, counted from the client's start, of that renewal.
func failing(t *testing.T, prepare func(*caller)) (*host, *caller, int) {
	t.Helper()
	h := startHost(t, newDisk(2), "a", nil)
	h.join(1)
	a := h.registered()
	if prepare != nil {
		prepare(a)
	}
	check(t, "acquire", a.acquire(0, lease(1, 0)), 0)
	for last := h.s.spaces[0].ls.Renewed(); h.s.spaces[0].ls.Renewed() == last; {
		time.Sleep(time.Second / 4)
	}
	h.dev.Add(faulty.On(faulty.Any, faulty.Fail(nil)))
	age := h.s.cfg.Clock.Now().Sub(h.s.spaces[0].ls.Renewed())
	return h, a, int((time.Since(a.who.began) - age) / time.Second)
}

// TestLadder checks what a client gets, second by second, when storage fails (spec sanlock-daemon 2.9). With
// an io_timeout of 2 s the lockspace is lost after 16 s and the grace ends after 56 s.
func TestLadder(t *testing.T) {
	restrict := func(flags uint32) func(*caller) {
		return func(p *caller) { p.ask(sanlockwire.CmdRestrict, flags, 0, self, nil) }
	}
	const term, kill = 15, 9
	for _, c := range []struct {
		name       string
		prepare    func(*caller)
		inGrace    int
		afterwards int
	}{
		{"plain", nil, term, kill},
		{"no SIGKILL", restrict(sanlockwire.RestrictSigkill), term, term},
		{"no SIGTERM", restrict(sanlockwire.RestrictSigterm), kill, kill},
		{"neither", restrict(sanlockwire.RestrictSigterm | sanlockwire.RestrictSigkill), kill, kill},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, a, renewed := failing(t, c.prepare)
				time.Sleep(80 * time.Second)
				got := a.who.signals()
				end := slices.IndexFunc(got, func(s string) bool { return secondOf(s) >= renewed+70 })
				want := append(ladder(c.inGrace, renewed+16, renewed+56), ladder(c.afterwards, renewed+56, renewed+70)...)
				if end < 0 || !near(got[:end], want) {
					t.Errorf("last renewal at %d: got %s", renewed, cmp.Diff(want, got))
				}
				check(t, "acquire while being stopped", a.acquire(0, lease(2, 0)), -16)
				check(t, "by pid", h.dial().ask(sanlockwire.CmdAcquire, 0, 1, uint32(a.who.number),
					acquireBody(lease(2, 0))), -16)
				check(t, "acquire by another", h.registered().acquire(0, lease(2, 0)), -28)
				writes := h.dev.Writes()
				check(t, "release on a lost lockspace", a.release(lease(1, 0)), 0)
				if h.dev.Writes() != writes {
					t.Error("a lease of a lost lockspace was written to")
				}
				before := len(a.who.signals())
				time.Sleep(2 * time.Second)
				if n := len(a.who.signals()); n != before {
					t.Errorf("%d signals after the release", n-before)
				}
				check(t, "inq", h.onSpace(inq, 0, 0, spaceAs(1)), -2)
				for _, line := range []string{
					fmt.Sprintf("s1 check_our_lease failed %d", 16), "s1 all pids clear", "s1 renewal error -5 delta_length 0 last_success ",
					fmt.Sprintf("s1 kill %d sig %d count 1\n", a.who.number, c.inGrace),
				} {
					if !strings.Contains(h.log.String(), line) {
						t.Errorf("the log has no line %q", line)
					}
				}
			})
		})
	}
}

func secondOf(s string) (second int) {
	var sig int
	if _, err := fmt.Sscanf(s, "%d@%d", &sig, &second); err != nil {
		panic(err)
	}
	return second
}

// near reports whether the signals are those wanted, each at most a second later.
func near(got, want []string) bool {
	if len(got) < len(want)-2 || len(got) > len(want) {
		return false
	}
	for i, g := range got {
		sig, _, _ := strings.Cut(g, "@")
		if !slices.ContainsFunc(want, func(w string) bool {
			return strings.HasPrefix(w, sig+"@") && secondOf(g) >= secondOf(w) && secondOf(g) <= secondOf(w)+1
		}) {
			return false
		}
		if i > 0 && secondOf(g) == secondOf(got[i-1]) {
			return false
		}
	}
	return true
}

// TestKillpath runs the program once, and lets the client release in its grace.
func TestKillpath(t *testing.T) {
	for _, obeys := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			h, a, _ := failing(t, func(p *caller) {
				k := sanlockwire.Killpath{Path: "/bin/stop", Args: `a\ b c`}
				check(t, "killpath", p.ask(sanlockwire.CmdKillpath, sanlockwire.KillpathPID, 0, self, k.Append(nil)), 0)
			})
			time.Sleep(40 * time.Second)
			h.mu.Lock()
			started := slices.Clone(h.started)
			h.mu.Unlock()
			if want := fmt.Sprintf("/bin/stop[a b c %d]", a.who.number); len(started) != 1 || started[0] != want {
				t.Fatalf("programs started: %q, want once %q", started, want)
			}
			if got := a.who.signals(); len(got) != 0 {
				t.Errorf("signals in the grace of a client with a killpath: %v", got)
			}
			pid := uint32(a.who.number)
			if obeys {
				out := h.dial()
				check(t, "inquire", out.ask(sanlockwire.CmdInquire, 0, 0, pid, nil), 0)
				check(t, "release", out.ask(sanlockwire.CmdRelease, sanlockwire.ReleaseAll, 0, pid, nil), 0)
			}
			time.Sleep(40 * time.Second)
			got := a.who.signals()
			if obeys != (len(got) == 0) || len(got) > 0 && !strings.HasPrefix(got[0], "9@") {
				t.Errorf("client that obeys %v was sent %v", obeys, got)
			}
			if obeys {
				h.dev.Forget()
				check(t, "inq", h.onSpace(inq, 0, 0, spaceAs(1)), -2)
			}
			a.Close()
		})
	}
}

// TestStuckClient gives up after 100 attempts and keeps the lockspace.
func TestStuckClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, a, _ := failing(t, nil)
		time.Sleep(10 * time.Minute)
		if got := len(a.who.signals()); got != maxKills {
			t.Errorf("%d signals, want %d", got, maxKills)
		}
		check(t, "inq", h.onSpace(inq, 0, 0, spaceAs(1)), 0)
		if !strings.Contains(h.log.String(), "killing pids stuck 1\n") {
			t.Error("nothing in the log")
		}
	})
}

// TestRemoveStopsUsers: removal is SIGKILL from the first second, and leaves the leases on disk.
func TestRemoveStopsUsers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(4)
		h := startHost(t, disk, "a", nil)
		h.join(1)
		a, b, c := h.registered(), h.registered(), h.registered()
		check(t, "a", a.acquire(0, lease(1, 0)), 0)
		check(t, "b", b.acquire(0, lease(2, sh), lease(3, persistent)), 0)
		a.who.onKill = func(syscall.Signal) { a.Close() }
		check(t, "rem", h.onSpace(rem, async, 0, spaceAs(1)), 0)
		time.Sleep(2500 * time.Millisecond)
		check(t, "acquire", c.acquire(0, lease(4, 0)), -28)
		check(t, "inq while users are being stopped", h.onSpace(inq, async, 0, spaceAs(1)), 0)
		b.Close()
		time.Sleep(3 * time.Second)
		check(t, "inq", h.onSpace(inq, 0, 0, spaceAs(1)), -2)
		if got := a.who.signals(); len(got) != 1 || got[0][:2] != "9@" {
			t.Errorf("a was sent %v, want one SIGKILL", got)
		}
		if got := b.who.signals(); len(got) != 3 {
			t.Errorf("b was sent %v, want three", got)
		}
		if got := c.who.signals(); len(got) != 0 {
			t.Errorf("c, which held nothing, was sent %v", got)
		}
		if owner(disk, 1) != 0 || sharing(disk, 2, 1) || owner(disk, 3) != 0 || deltaLease(disk, 1).Timestamp != 0 {
			t.Error("want the leases and the host id free on disk")
		}
		if h.count(orphan) != 0 {
			t.Error("an orphan outlived its lockspace")
		}
	})
}

// TestNoGrantWhenLost: the lockspace is lost while an acquire is under way, in each of its transfers in turn.
// The client must not be told that it has the lease.
func TestNoGrantWhenLost(t *testing.T) {
	for n := 0; ; n++ {
		fired := false
		synctest.Test(t, func(t *testing.T) {
			h := startHost(t, newDisk(2), "a", nil)
			h.join(1)
			hang := faulty.NewGate()
			rule := faulty.OnIndex(n, faulty.StallAnswer(hang)).In(ondisk.MiB, ondisk.MiB)
			a := h.registered()
			for last := h.s.spaces[0].ls.Renewed(); h.s.spaces[0].ls.Renewed() == last; {
				time.Sleep(time.Second / 4)
			}
			// The disk hangs for less than an io_timeout, and the lease runs out just then.
			h.dev.Add(faulty.On(faulty.Any, faulty.Fail(nil)).In(0, ondisk.MiB))
			age := h.s.cfg.Clock.Now().Sub(h.s.spaces[0].ls.Renewed())
			time.Sleep(15*time.Second - age)
			h.dev.Add(rule)
			a.send(sanlockwire.CmdAcquire, 0, 1, self, acquireBody(lease(1, 0)))
			time.Sleep(1500 * time.Millisecond)
			fired = rule.Fired() > 0
			hang.Release()
			r, _ := a.answer()
			if got := r.Result(); fired != (got == -28) || !fired && got != 0 {
				t.Errorf("transfer %d: acquire in a lockspace that was lost: %d", n, got)
			}
			if fired && len(a.who.signals()) != 0 {
				t.Error("a client that holds nothing was sent a signal")
			}
		})
		if !fired {
			if n < 4 {
				t.Errorf("an acquire took %d transfers, the test sees nothing", n)
			}
			return
		}
	}
}

// TestSuspend: a machine that slept for longer than its lease lasts has no grace left to give.
func TestSuspend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startHost(t, newDisk(2), "a", nil)
		h.join(1)
		a := h.registered()
		check(t, "acquire", a.acquire(0, lease(1, 0)), 0)
		time.Sleep(20 * time.Second)
		h.asleep.Store(int64(time.Hour))
		time.Sleep(3 * time.Second)
		if got := a.who.signals(); len(got) == 0 || !strings.HasPrefix(got[0], "9@") {
			t.Errorf("after an hour of suspend the holder was sent %v, want SIGKILL", got)
		}
		check(t, "acquire", h.registered().acquire(0, lease(2, 0)), -28)
		a.Close()
	})
}

func TestSplitArgs(t *testing.T) {
	for _, c := range []struct {
		in   string
		want []string
	}{
		{"", nil},
		{"a", []string{"a"}},
		{"  a   b ", []string{"a", "b"}},
		{`a\ b c`, []string{"a b", "c"}},
		{`a\\b`, []string{`a\b`}},
		{`a b\nc d`, []string{"a", "b"}},
		{"a\x01b", []string{"a"}},
		{`end\`, []string{"end"}},
		{"1 2 3 4 5 6 7 8 9", []string{"1", "2", "3", "4", "5", "6", "7"}},
	} {
		if got := splitArgs(c.in); !slices.Equal(got, c.want) {
			t.Errorf("%q: %q, want %q", c.in, got, c.want)
		}
	}
}
