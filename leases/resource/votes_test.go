package resource

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device/faulty"
	"github.com/tenurelock/tenure/leases/device/memdisk"
	"github.com/tenurelock/tenure/leases/ondisk"
)

// Hole 9.5 of stock: hosts are made to forget what they have voted for.

// vote is the part of a block that an acceptor must not forget.
func vote(b ondisk.HostBlock) [6]uint64 {
	return [6]uint64{b.MBal, b.Bal, b.Inp, b.Inp2, b.Inp3, b.LVer}
}

// TestVotesAreKept: stock writes zeros over votes when a shared acquire fails, when a proposal is withdrawn,
// and when the mark of a dead sharer is cleared. Host 3 is the voter.
func TestVotesAreKept(t *testing.T) {
	cases := []struct {
		name string
		run  func(t *testing.T, disk *memdisk.Disk) (before, want ondisk.HostBlock)
	}{
		{"failed shared acquire", func(t *testing.T, disk *memdisk.Disk) (before, want ondisk.HostBlock) {
			l := openLease(t, disk)
			if err := l.Release(t.Context(), mustAcquire(t, l, host(3, 1), ex, oracle{}), ""); err != nil {
				t.Fatal(err)
			}
			mustAcquire(t, openLease(t, disk), host(1, 1), ex, oracle{})
			before = blockAt(t, disk, 3)
			_, err := l.Acquire(t.Context(), host(3, 1), sh, oracle{})
			wantKind(t, err, leases.Held)
			return before, before
		}},
		{"sharer that is dead", func(t *testing.T, disk *memdisk.Disk) (before, want ondisk.HostBlock) {
			mustAcquire(t, openLease(t, disk), host(3, 1), sh, oracle{})
			before = blockAt(t, disk, 3)
			mustAcquire(t, openLease(t, disk), host(1, 1), ex, oracle{host(3, 1): leases.Dead})
			return before, before
		}},
		{"sharer that has come back", func(t *testing.T, disk *memdisk.Disk) (before, want ondisk.HostBlock) {
			mustAcquire(t, openLease(t, disk), host(3, 1), sh, oracle{})
			before = blockAt(t, disk, 3)
			mustAcquire(t, openLease(t, disk), host(1, 1), ex, oracle{host(3, 1): leases.Free})
			return before, before
		}},
		{"withdrawal after phase 2", func(t *testing.T, disk *memdisk.Disk) (before, want ondisk.HostBlock) {
			return withdrawn(t, disk, faulty.On(faulty.Read, faulty.Fail(nil)).From(2).Times(1))
		}},
		{"withdrawal after the commit", func(t *testing.T, disk *memdisk.Disk) (before, want ondisk.HostBlock) {
			return withdrawn(t, disk, faulty.On(faulty.Write, faulty.Fail(nil)).From(2).Times(1))
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk := formatted(t, small, 8)
				before, want := c.run(t, disk)
				if before.Bal == 0 || before.Inp == 0 {
					t.Fatalf("no vote to be kept: %+v", before)
				}
				after := blockAt(t, disk, 3)
				want.Checksum, after.Checksum = 0, 0
				if after != want {
					t.Errorf("block of host 3 was %+v, is %+v, want %+v", before, after, want)
				}
			})
		})
	}
}

// withdrawn lets host 3 fail to acquire by rule and settle. It returns its block as the ballot wrote it last,
// and the same with a mark.
func withdrawn(t *testing.T, disk *memdisk.Disk, rule *faulty.Match) (last, want ondisk.HostBlock) {
	t.Helper()
	dev := faulty.Wrap(disk.Open("3"))
	t.Cleanup(func() { dev.Close() })
	dev.Add(rule)
	l := leaseOn(t, small, afterWrites{dev, func(off int64) {
		if b := blockAt(t, disk, 3); off == small.BlockOffset(3) && !b.Released() {
			last = b
		}
	}})
	_, err := l.Acquire(t.Context(), host(3, 1), ex, oracle{})
	if err == nil || rule.Fired() != 1 {
		t.Fatalf("acquired although the rule fired %d times: %v", rule.Fired(), err)
	}
	if err := l.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	own := ondisk.DBlock{
		MBal: 3, Bal: 3, Inp: 3, Inp2: 1, Inp3: 1000, LVer: 1, Flags: ondisk.DBlockReleased,
	}
	return last, ondisk.HostBlock{DBlock: own}
}

// TestForgottenVoteWouldDecideTwice shows what hole 9.5 costs. Host 3 has decided for itself and its leader
// write hangs past its deadline. With stock's zeros in its block another host decides the same version for
// itself, and then the write lands; with the vote kept the other host finds it.
func TestForgottenVoteWouldDecideTwice(t *testing.T) {
	for _, stock := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			disk := formatted(t, small, 8)
			gate := faulty.NewGate()
			late := faulty.On(faulty.Write, faulty.Stall(gate)).In(0, int64(small.Sector)).Times(1)
			dev := faulty.Wrap(disk.Open("3"), late)
			defer dev.Close()
			l := leaseOn(t, small, dev)
			_, err := l.Acquire(t.Context(), host(3, 1), ex, oracle{})
			wantKind(t, err, leases.Timeout)
			if !l.Unsettled() {
				t.Error("a write is in flight and the lease counts as settled")
			}
			if stock {
				sector := make([]byte, small.Sector)
				(&ondisk.HostBlock{DBlock: ondisk.DBlock{Flags: ondisk.DBlockReleased}}).Encode(sector)
				disk.Poke(small.BlockOffset(3), sector)
			}
			two, err := openLease(t, disk).Acquire(t.Context(), host(2, 1), ex, oracle{})
			twice := err == nil && two.Version == 1
			gate.Release()
			time.Sleep(time.Second)
			if twice != stock {
				t.Errorf("forgetting %v: version 1 decided twice is %v: %+v, %v", stock, twice, two, err)
			}
			if leader := leaderAt(t, disk); leader.OwnerID != 3 || leader.LVer != 1 {
				t.Errorf("the late write did not land: owner %d, lver %d", leader.OwnerID, leader.LVer)
			}
			if stock {
				return
			}
			settle(t, "after the late write", l)
			if g := mustAcquire(t, openLease(t, disk), host(2, 1), ex, oracle{}); g.Version != 2 {
				t.Errorf("after host 3 withdrew: version %d, want 2", g.Version)
			}
		})
	}
}
