package sanlockd

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device/faulty"
	"github.com/tenurelock/tenure/leases/ondisk"
)

const (
	sh         = sanlockwire.ResShared
	persistent = sanlockwire.ResPersistent
)

// TestAcquireHere walks the table of what the state of a lease on this host decides (spec sanlock-daemon 2.3).
func TestAcquireHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(4)
		h := startHost(t, disk, "a", nil)
		h.join(1)
		a, b := h.registered(), h.registered()
		check(t, "free", a.acquire(0, lease(1, 0)), 0)
		check(t, "held by another client", b.acquire(0, lease(1, 0)), -17)
		check(t, "held by itself", a.acquire(0, lease(1, 0)), -17)
		check(t, "held, shared wanted", b.acquire(0, lease(1, sh)), -17)
		check(t, "shared", a.acquire(0, lease(2, sh)), 0)
		reads, writes := h.dev.Reads(), h.dev.Writes()
		check(t, "shared by another client", b.acquire(0, lease(2, sh)), 0)
		check(t, "shared twice by one client", b.acquire(0, lease(2, sh)), 0)
		if h.dev.Reads() != reads || h.dev.Writes() != writes {
			t.Error("sharing what is shared here touched the disk")
		}
		check(t, "shared, exclusive wanted", b.acquire(0, lease(2, 0)), -17)
		check(t, "lockspace not joined", a.acquire(0, sanlockwire.Resource{
			Space: leases.NameOf("XX"), Name: leases.NameOf("r3"), Disks: lease(3, 0).Disks,
		}), -28)
		wrong := lease(3, 0)
		wrong.Name = leases.NameOf("other")
		check(t, "another name on disk", a.acquire(0, wrong), -227)
		wrong = lease(3, sanlockwire.ResLVer)
		wrong.LVer = 7
		check(t, "another version", a.acquire(0, wrong), -240)
		wrong = lease(3, 0)
		wrong.Disks[0].Path = "/nowhere"
		check(t, "no such device", a.acquire(0, wrong), -2)
		wrong.Disks[0] = sanlockwire.Disk{Path: diskPath, Offset: 30 * ondisk.MiB}
		check(t, "nothing there", a.acquire(0, wrong), -223)
		check(t, "nothing asked for", a.acquire(0), 0)
		check(t, "no orphan", a.acquire(sanlockwire.AcquireOrphanOnly, lease(3, 0)), -2)

		if got, want := a.holds(), "LS:r1:/dev/lease:1048576:1 LS:r2:/dev/lease:2097152:SH"; got != want {
			t.Errorf("a holds %q, want %q", got, want)
		}
		if got, want := b.holds(), "LS:r2:/dev/lease:2097152:SH LS:r2:/dev/lease:2097152:SH"; got != want {
			t.Errorf("b holds %q, want %q", got, want)
		}
		check(t, "release shared", b.release(lease(2, 0)), 0)
		check(t, "release shared again", b.release(lease(2, 0)), 0)
		check(t, "release shared too often", b.release(lease(2, 0)), -1)
		if !sharing(disk, 2, 1) {
			t.Error("the lease is not shared on disk while a client holds it")
		}
		check(t, "release of the last", a.release(lease(2, 0)), 0)
		if sharing(disk, 2, 1) {
			t.Error("the lease is shared on disk though nobody holds it")
		}
	})
}

// TestAcquireAllOrNothing takes three leases of which the last cannot be had.
func TestAcquireAllOrNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(4)
		h := startHost(t, disk, "a", nil)
		h.join(1)
		a, b := h.registered(), h.registered()
		check(t, "b takes r3", b.acquire(0, lease(3, 0)), 0)
		check(t, "a takes r1, r2, r3", a.acquire(0, lease(1, 0), lease(2, sh), lease(3, 0)), -17)
		if got := a.holds(); got != "" {
			t.Errorf("a holds %q after an acquire that failed", got)
		}
		if owner(disk, 1) != 0 || sharing(disk, 2, 1) || owner(disk, 3) != 1 {
			t.Error("the disk does not show that only r3 is held")
		}
		check(t, "b takes r1, r2", b.acquire(0, lease(1, 0), lease(2, 0)), 0)
	})
}

// TestAcquireOrphans leaves leases behind and takes them again.
func TestAcquireOrphans(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(4)
		h := startHost(t, disk, "a", nil)
		h.join(1)
		a := h.registered()
		check(t, "take", a.acquire(0, lease(1, persistent), lease(2, persistent|sh), lease(3, 0)), 0)
		a.Close()
		synctest.Wait()
		h.settledDown()
		if n := h.count(orphan); n != 2 || owner(disk, 1) != 1 || owner(disk, 3) != 0 {
			t.Fatalf("%d orphans, want 2; owners on disk %d and %d, want 1 and 0", n, owner(disk, 1), owner(disk, 3))
		}
		b := h.registered()
		const adopt, only = sanlockwire.AcquireOrphan, sanlockwire.AcquireOrphanOnly
		check(t, "orphan without flag", b.acquire(0, lease(1, 0)), -117)
		check(t, "orphan in another mode", b.acquire(adopt, lease(1, sh)), -117)
		check(t, "shared orphan, exclusive wanted", b.acquire(only, lease(2, 0)), -117)
		// The second resource fails, so the orphan must be one again, not free.
		check(t, "orphan and what is not there", b.acquire(adopt, lease(1, persistent), lease(9, 0)), -223)
		if n := h.count(orphan); n != 2 || owner(disk, 1) != 1 {
			t.Errorf("%d orphans after an acquire that failed, want 2; owner on disk %d, want 1", n, owner(disk, 1))
		}
		writes := h.dev.Writes()
		check(t, "adopt", b.acquire(adopt, lease(1, persistent)), 0)
		check(t, "adopt the shared one", b.acquire(only, lease(2, sh)), 0)
		if h.dev.Writes() != writes {
			t.Error("adopting wrote to the disk")
		}
		if got, want := b.holds(), "LS:r1:/dev/lease:1048576:1 LS:r2:/dev/lease:2097152:SH"; got != want {
			t.Errorf("b holds %q, want %q", got, want)
		}
		b.Close()
		synctest.Wait()
		h.settledDown()
		// The flag of the last holder counts: r2 was adopted without.
		if n := h.count(orphan); n != 1 || sharing(disk, 2, 1) {
			t.Errorf("%d orphans, want r1 alone", n)
		}
		c := h.registered()
		check(t, "release of orphans", c.ask(sanlockwire.CmdRelease, sanlockwire.ReleaseOrphan, 1, self,
			sanlockwire.Resource{Space: leases.NameOf("LS")}.Append(nil)), 1)
		h.settledDown()
		if n := h.count(orphan); n != 0 || owner(disk, 1) != 0 {
			t.Errorf("%d orphans, want none, and r1 free on disk", n)
		}
	})
}

// TestAcquireWhileBusy asks for a lease that is being acquired, and for one that is being released.
func TestAcquireWhileBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(2)
		h := startHost(t, disk, "a", nil)
		h.join(1)
		a, b := h.registered(), h.registered()
		hang := faulty.NewGate()
		h.dev.Add(faulty.On(faulty.Write, faulty.Stall(hang)).In(ondisk.MiB, ondisk.MiB).Times(1))
		a.send(sanlockwire.CmdAcquire, 0, 1, self, acquireBody(lease(1, 0)))
		synctest.Wait()
		check(t, "being acquired", b.acquire(0, lease(1, 0)), -16)
		hang.Release()
		if h, _ := a.answer(); h.Result() != 0 {
			t.Fatalf("acquire: %d", h.Result())
		}
		hang = faulty.NewGate()
		h.dev.Add(faulty.On(faulty.Write, faulty.Stall(hang)).In(ondisk.MiB, ondisk.MiB).Times(1))
		a.Close()
		synctest.Wait()
		check(t, "being released", b.acquire(0, lease(1, 0)), -11)
		hang.Release()
		h.settledDown()
		check(t, "released", b.acquire(0, lease(1, 0)), 0)
	})
}

// TestTargets addresses commands to other processes (spec sanlock-daemon 1.8).
func TestTargets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startHost(t, newDisk(3), "a", nil)
		h.join(1)
		a, out := h.registered(), h.dial()
		pid := uint32(a.who.number)
		acquire := func(pid uint32, n int) int32 {
			return out.ask(sanlockwire.CmdAcquire, 0, 1, pid, acquireBody(lease(n, 0)))
		}
		synctest.Wait()
		check(t, "nobody", acquire(99999, 1), -3)
		check(t, "not registered", acquire(self, 1), -16)
		check(t, "for a", acquire(pid, 1), 0)
		if got, want := a.holds(), "LS:r1:/dev/lease:1048576:1"; got != want {
			t.Errorf("a holds %q, want %q", got, want)
		}
		// The same process again: the connection that came first counts.
		again := h.dialAs(a.who)
		again.send(sanlockwire.CmdRegister, 0, 0, 0, nil)
		check(t, "for a again", acquire(pid, 2), 0)
		if again.holds() != "" {
			t.Error("the later connection of a process was taken")
		}
		// While a command of its own is at work, a is busy for others.
		hang := faulty.NewGate()
		h.dev.Add(faulty.On(faulty.Write, faulty.Stall(hang)).In(3*ondisk.MiB, ondisk.MiB).Times(1))
		a.send(sanlockwire.CmdAcquire, 0, 1, self, acquireBody(lease(3, 0)))
		synctest.Wait()
		check(t, "busy", out.ask(sanlockwire.CmdInquire, 0, 0, pid, nil), -16)
		hang.Release()
		if h, _ := a.answer(); h.Result() != 0 {
			t.Errorf("acquire: %d", h.Result())
		}
		check(t, "release all of a", out.ask(sanlockwire.CmdRelease, sanlockwire.ReleaseAll, 0, pid, nil), 0)
		if a.holds() != "" {
			t.Error("a still holds something")
		}
	})
}

// TestTargetDies: the process that somebody else acquires for dies meanwhile.
func TestTargetDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(2)
		h := startHost(t, disk, "a", nil)
		h.join(1)
		a, out := h.registered(), h.dial()
		hang := faulty.NewGate()
		h.dev.Add(faulty.On(faulty.Write, faulty.Stall(hang)).In(ondisk.MiB, ondisk.MiB).Times(1))
		out.send(sanlockwire.CmdAcquire, 0, 1, uint32(a.who.number), acquireBody(lease(1, 0)))
		synctest.Wait()
		a.Close()
		synctest.Wait()
		hang.Release()
		if h, _ := out.answer(); h.Result() != -25 {
			t.Errorf("acquire for a process that died: %d, want -25", h.Result())
		}
		h.settledDown()
		if owner(disk, 1) != 0 {
			t.Error("the lease is still owned on disk")
		}
		check(t, "for a dead process", out.ask(sanlockwire.CmdInquire, 0, 0, uint32(a.who.number), nil), -3)
	})
}

// TestDyingClient stalls an acquire in each of its transfers in turn, lets the client die there, and lets the
// transfer go on. Whatever was under way, the lease must be free in the end, here and on disk.
func TestDyingClient(t *testing.T) {
	for _, mode := range []uint32{0, sh} {
		for n := 0; ; n++ {
			fired := false
			synctest.Test(t, func(t *testing.T) {
				disk := newDisk(2)
				h := startHost(t, disk, "a", nil)
				h.join(1)
				hang := faulty.NewGate()
				rule := faulty.OnIndex(n, faulty.Stall(hang)).In(ondisk.MiB, ondisk.MiB)
				h.dev.Add(rule)
				a := h.registered()
				a.send(sanlockwire.CmdAcquire, 0, 1, self, acquireBody(lease(1, mode)))
				synctest.Wait()
				fired = rule.Fired() > 0
				if !fired {
					hang.Release() // the rule would meet the release of the lease otherwise
					return
				}
				a.Close()
				synctest.Wait()
				time.Sleep(time.Second)
				hang.Release()
				h.settledDown()
				if owner(disk, 1) != 0 || sharing(disk, 1, 1) {
					t.Errorf("transfer %d: the lease of a dead client is held on disk", n)
				}
				check(t, "acquire by the next", h.registered().acquire(0, lease(1, 0)), 0)
			})
			if !fired {
				if n < 4 {
					t.Errorf("an acquire took %d transfers, the test sees nothing", n)
				}
				break
			}
		}
	}
}

// TestDyingWaiter dies while it waits for a lease of a host that has fallen silent.
func TestDyingWaiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(2)
		ha := startHost(t, disk, "a", nil)
		ha.join(1)
		hb := startHost(t, disk, "b", nil)
		hb.join(2)
		check(t, "a", ha.registered().acquire(0, lease(1, 0)), 0)
		time.Sleep(10 * time.Second)
		ha.dev.Add(faulty.On(faulty.Write, faulty.Fail(nil)))
		time.Sleep(20 * time.Second)
		w, other := hb.registered(), hb.registered()
		w.send(sanlockwire.CmdAcquire, 0, 1, self, acquireBody(lease(1, 0)))
		time.Sleep(5 * time.Second)
		check(t, "another while one waits", other.acquire(0, lease(1, 0)), -16)
		check(t, "the daemon meanwhile", other.acquire(0, lease(2, 0)), 0)
		w.Close()
		time.Sleep(2 * time.Second)
		if n := hb.count(adding); n != 0 {
			t.Errorf("%d leases are still waited for by nobody", n)
		}
		began := time.Now()
		check(t, "who waits long enough", other.acquire(0, lease(1, 0)), 0)
		if waited := time.Since(began); waited < 40*time.Second || waited > 60*time.Second {
			t.Errorf("waited %v for a host that died 27 s ago and is dead after 76 s", waited)
		}
	})
}
