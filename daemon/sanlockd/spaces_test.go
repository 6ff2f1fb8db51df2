package sanlockd

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device/faulty"
	"github.com/tenurelock/tenure/leases/ondisk"
)

const (
	add, rem, inq = sanlockwire.CmdAddLockspace, sanlockwire.CmdRemLockspace, sanlockwire.CmdInqLockspace
	async         = 1 // of add and rem; wait of inq
)

// TestLockspaceResults walks the results of adding, inquiring and removing (spec sanlock-daemon 2.7, 2.8).
func TestLockspaceResults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(2)
		h := startHost(t, disk, "a", nil)
		ls := spaceAs(1)
		check(t, "inq unknown", h.onSpace(inq, 0, 0, ls), -2)
		check(t, "inq unknown, wait", h.onSpace(inq, async, 0, ls), -2)
		check(t, "rem unknown", h.onSpace(rem, 0, 0, ls), -2)
		for what, bad := range map[string]sanlockwire.Lockspace{
			"no host id": spaceAs(0), "no path": {Name: ls.Name, HostID: 1}, "no name": {HostID: 1, Disk: ls.Disk},
		} {
			check(t, what, h.onSpace(add, 0, 0, bad), -22)
		}
		check(t, "io_timeout of 256", h.onSpace(add, 0, 256, ls), -22)
		elsewhere := ls
		elsewhere.Disk.Path = "/nowhere"
		check(t, "no device", h.onSpace(add, 0, 0, elsewhere), -19)
		elsewhere = ls
		elsewhere.Disk.Offset = ondisk.MiB
		check(t, "not a lockspace", h.onSpace(add, 0, 0, elsewhere), -223)
		check(t, "host id too high", h.onSpace(add, 0, 0, spaceAs(2001)), -231)

		check(t, "add async", h.onSpace(add, async, 0, ls), 0)
		check(t, "inq while adding", h.onSpace(inq, 0, 0, ls), -115)
		check(t, "add while adding", h.onSpace(add, 0, 0, ls), -115)
		check(t, "acquire while adding", h.registered().acquire(0, lease(1, 0)), -28)
		check(t, "inq, wait", h.onSpace(inq, async, 0, ls), 0)
		check(t, "add again", h.onSpace(add, 0, 0, ls), -17)
		check(t, "add with another host id", h.onSpace(add, 0, 0, spaceAs(2)), -22)
		other := ls
		other.Name = leases.NameOf("LT")
		check(t, "add another name at the same place", h.onSpace(add, 0, 0, other), -22)
		check(t, "inq without host id", h.onSpace(inq, 0, 0, spaceAs(0)), 0)
		check(t, "inq with another host id", h.onSpace(inq, 0, 0, spaceAs(2)), -2)
		check(t, "inq at another place", h.onSpace(inq, 0, 0, elsewhere), -2)

		a := h.registered()
		check(t, "acquire", a.acquire(0, lease(1, 0)), 0)
		check(t, "rem if unused", h.onSpace(rem, sanlockwire.RemoveIdle, 0, ls), -16)
		check(t, "release", a.release(lease(1, 0)), 0)
		check(t, "rem if unused", h.onSpace(rem, sanlockwire.RemoveIdle, 0, ls), 0)
		check(t, "inq after rem", h.onSpace(inq, 0, 0, ls), -2)
		if l := deltaLease(disk, 1); l.Timestamp != 0 || l.OwnerGeneration != 1 {
			t.Errorf("delta lease after rem: %+v, want it free", l)
		}
	})
}

// deltaLease reads a host's delta lease.
func deltaLease(disk interface{ Bytes(int64, int) []byte }, host uint64) ondisk.Leader {
	l, err := ondisk.DecodeLeader(disk.Bytes(grid.DeltaOffset(host), 512))
	if err != nil {
		panic(err)
	}
	return l
}

// TestRemovalCanBeSeen polls once a second, at every phase of a second, for the state between joined and gone
// (spec sanlock-daemon 5.4).
func TestRemovalCanBeSeen(t *testing.T) {
	for phase := time.Duration(0); phase < time.Second; phase += 100 * time.Millisecond {
		synctest.Test(t, func(t *testing.T) {
			h := startHost(t, newDisk(1), "a", nil)
			h.join(1)
			check(t, "rem async", h.onSpace(rem, async, 0, spaceAs(1)), 0)
			time.Sleep(phase)
			var seen []int32
			for len(seen) == 0 || seen[len(seen)-1] != -2 {
				seen = append(seen, h.onSpace(inq, 0, 0, spaceAs(1)))
				time.Sleep(time.Second)
			}
			if len(seen) < 2 || seen[len(seen)-2] != -115 {
				t.Errorf("phase %v: saw %v, want -115 before -2", phase, seen)
			}
			check(t, "add again", h.onSpace(add, 0, 0, spaceAs(1)), 0)
		})
	}
}

// TestRemoveWhileAdding undoes a join that is under way.
func TestRemoveWhileAdding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(1)
		h := startHost(t, disk, "a", nil)
		p := h.dial()
		p.send(add, 0, 0, 0, spaceAs(1).Append(nil))
		time.Sleep(time.Second)
		check(t, "rem", h.onSpace(rem, 0, 0, spaceAs(1)), 0)
		if l := deltaLease(disk, 1); l.Timestamp != 0 {
			t.Errorf("the claim is left in the sector: %+v", l)
		}
		if r, _ := p.answer(); r.Result() != -1 {
			t.Errorf("add that was undone: %d, want -1", r.Result())
		}
		check(t, "inq", h.onSpace(inq, 0, 0, spaceAs(1)), -2)
		check(t, "add", h.onSpace(add, 0, 0, spaceAs(1)), 0)
	})
}

func TestNoJoinWithoutWatchdog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(1)
		h := startHost(t, disk, "a", func(c *Config) { c.UseWatchdog = 1 })
		check(t, "add with -w 1", h.onSpace(add, 0, 0, spaceAs(1)), -203)
		if l := deltaLease(disk, 1); l.OwnerID != 0 {
			t.Errorf("the host id was taken: %+v", l)
		}
		if !strings.Contains(h.log.String(), "with -w 0") {
			t.Errorf("the log does not say what to do:\n%s", h.log)
		}
	})
}

// TestHosts asks for hosts before and after they were looked at.
func TestHosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(1)
		h, other := startHost(t, disk, "a", nil), startHost(t, disk, "b", nil)
		hosts := func(l sanlockwire.Lockspace, flags uint32) (int32, []sanlockwire.Host) {
			p := h.dial()
			p.send(sanlockwire.CmdGetHosts, flags, 0, 0, l.Append(nil))
			r, body := p.answer()
			if len(p.rest()) != 0 {
				t.Error("something follows the hosts")
			}
			var all []sanlockwire.Host
			for ; len(body) > 0; body = body[sanlockwire.HostSize:] {
				var one sanlockwire.Host
				if err := one.Decode(body); err != nil {
					t.Fatal(err)
				}
				all = append(all, one)
			}
			if int(r.Data2) != len(all) {
				t.Errorf("%d hosts announced, %d sent", r.Data2, len(all))
			}
			return r.Result(), all
		}
		rv, _ := hosts(spaceAs(0), 0)
		check(t, "unknown lockspace", rv, -2)
		other.join(2)
		h.join(1)
		rv, _ = hosts(spaceAs(0), 0)
		check(t, "not looked at", rv, -11)
		rv, all := hosts(spaceAs(0), sanlockwire.GetHostLocal)
		if rv != 0 || len(all) != 1 || all[0].HostID != 1 || all[0].Generation != 1 {
			t.Errorf("own host right after the join: %d, %+v", rv, all)
		}
		time.Sleep(time.Second)
		rv, all = hosts(spaceAs(0), 0)
		if rv != 0 || len(all) != 2 || all[0].Verdict() != leases.Alive || all[1].IOTimeout != testIO {
			t.Errorf("a second later: %d, %+v", rv, all)
		}
		rv, all = hosts(spaceAs(7), 0)
		if rv != 0 || len(all) != 1 || all[0] != (sanlockwire.Host{HostID: 7, Flags: uint32(leases.Free)}) {
			t.Errorf("a host id that nobody has: %d, %+v", rv, all)
		}
		rv, all = hosts(spaceAs(5000), 0)
		if rv != 0 || len(all) != 0 {
			t.Errorf("a host id beyond the last: %d, %+v", rv, all)
		}
	})
}

// TestConfigKeeps: a lockspace that is marked as used is not left until the mark is taken away.
func TestConfigKeeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(2)
		h := startHost(t, disk, "a", nil)
		const set = sanlockwire.CmdSetConfig
		check(t, "unknown lockspace", h.onSpace(set, 0, sanlockwire.ConfigUsed, spaceAs(1)), -2)
		h.join(1)
		check(t, "unknown setting", h.onSpace(set, 0, 3, spaceAs(1)), -22)
		check(t, "used", h.onSpace(set, 0, sanlockwire.ConfigUsed, spaceAs(1)), 0)
		check(t, "rem", h.onSpace(rem, async, 0, spaceAs(1)), 0)
		time.Sleep(time.Minute)
		check(t, "inq while it is kept", h.onSpace(inq, 0, 0, spaceAs(1)), 0)
		check(t, "used, again", h.onSpace(set, 0, sanlockwire.ConfigUsed, spaceAs(1)), -28)
		if deltaLease(disk, 1).Timestamp < 1000+50 {
			t.Error("it is not renewed any more while it is kept")
		}
		check(t, "unused", h.onSpace(set, 0, sanlockwire.ConfigUnused, spaceAs(1)), 0)
		time.Sleep(3 * time.Second)
		check(t, "inq", h.onSpace(inq, 0, 0, spaceAs(1)), -2)
	})
}

// TestWriteInFlightKeepsHostID: while a write to a lease hangs, the host id must not be freed, or the write
// might land on top of another owner's.
func TestWriteInFlightKeepsHostID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(2)
		h := startHost(t, disk, "a", nil)
		h.join(1)
		hang := faulty.NewGate()
		h.dev.Add(faulty.On(faulty.Write, faulty.Stall(hang)).In(ondisk.MiB, ondisk.MiB).Times(1))
		a := h.registered()
		check(t, "acquire", a.acquire(0, lease(1, 0)), -211)
		check(t, "while it is undone", a.acquire(0, lease(1, 0)), -11)
		check(t, "rem", h.onSpace(rem, async, 0, spaceAs(1)), 0)
		time.Sleep(time.Minute)
		check(t, "inq", h.onSpace(inq, 0, 0, spaceAs(1)), -115)
		if deltaLease(disk, 1).Timestamp == 0 {
			t.Fatal("the host id was freed while a write was in flight")
		}
		hang.Release()
		time.Sleep(5 * time.Second)
		check(t, "inq when it has landed", h.onSpace(inq, 0, 0, spaceAs(1)), -2)
		if deltaLease(disk, 1).Timestamp != 0 {
			t.Error("the host id was not freed")
		}
	})
}

// TestSettles: a release that cannot be written is tried again until it can.
func TestSettles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(2)
		h := startHost(t, disk, "a", nil)
		h.join(1)
		a, b := h.registered(), h.registered()
		check(t, "acquire", a.acquire(0, lease(1, 0)), 0)
		h.dev.Add(faulty.On(faulty.Write, faulty.Fail(nil)).In(ondisk.MiB, ondisk.MiB).Times(3))
		if rv := a.release(lease(1, 0)); rv >= 0 {
			t.Errorf("release that was not written: %d", rv)
		}
		if got := a.holds(); got != "" {
			t.Errorf("a holds %q after a release", got)
		}
		check(t, "acquire meanwhile", b.acquire(0, lease(1, 0)), -11)
		h.settledDown()
		if owner(disk, 1) != 0 {
			t.Error("the lease was not freed in the end")
		}
		check(t, "acquire", b.acquire(0, lease(1, 0)), 0)
	})
}

// TestShutdown walks the ways of ending the daemon (spec sanlock-daemon 2.14).
func TestShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(2)
		h := startHost(t, disk, "a", nil)
		h.join(1)
		a := h.registered()
		a.who.onKill = func(syscallSignal) { a.Close() }
		check(t, "acquire", a.acquire(0, lease(1, 0)), 0)
		p := h.dial()
		p.send(sanlockwire.CmdShutdown, 0, 0, 0, nil)
		if len(p.rest()) != 0 {
			t.Error("SHUTDOWN was answered")
		}
		check(t, "shutdown, wait", h.dial().ask(sanlockwire.CmdShutdownWait, 0, 0, 0, nil), -16)
		check(t, "still there", h.onSpace(inq, 0, 0, spaceAs(1)), 0)
		w := h.dial()
		w.send(sanlockwire.CmdShutdownWait, 0, 1, 0, nil)
		answer := w.rest()
		want := sanlockwire.NewHeader(0, 0, 0, 0, 0).Append(nil)
		if string(answer) != string(want) {
			t.Errorf("answer at the end %x, want %x", answer, want)
		}
		if got := a.who.signals(); len(got) != 1 || !strings.HasPrefix(got[0], "9@") {
			t.Errorf("the holder got signals %v, want one SIGKILL", got)
		}
		if deltaLease(disk, 1).Timestamp != 0 || owner(disk, 1) != 0 {
			t.Error("want the host id and the lease free")
		}
	})
}

// TestDefaultIOTimeout: what -o says counts where a request says nothing, and is on disk for others to see.
func TestDefaultIOTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(0)
		h := startHost(t, disk, "a", func(c *Config) { c.IOTimeout = 3 })
		check(t, "add_lockspace", h.onSpace(add, 0, 0, spaceAs(1)), 0)
		if got := deltaLease(disk, 1).IOTimeout; got != 3 {
			t.Errorf("io_timeout %d on disk", got)
		}
		check(t, "rem_lockspace", h.onSpace(rem, 0, 0, spaceAs(1)), 0)
		check(t, "add_lockspace with its own", h.onSpace(add, 0, 5, spaceAs(1)), 0)
		if got := deltaLease(disk, 1).IOTimeout; got != 5 {
			t.Errorf("io_timeout %d on disk", got)
		}
	})
}
