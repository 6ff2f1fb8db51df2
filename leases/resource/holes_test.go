package resource

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device"
	"github.com/tenurelock/tenure/leases/device/faulty"
	"github.com/tenurelock/tenure/leases/device/memdisk"
	"github.com/tenurelock/tenure/leases/monotime"
	"github.com/tenurelock/tenure/leases/ondisk"
	"github.com/tenurelock/tenure/leases/timeouts"
)

// Each test here is about a safety hole of stock sanlock 3.8.5 (spec ondisk 9). It says stock's rule in a few
// lines, shows that the rule does harm in the state that it sets up, and that we do not do that harm.

var exclusive = Request{Mode: leases.Exclusive}

// openLease returns a host's lease over its own handle of disk.
func openLease(t *testing.T, disk *memdisk.Disk) *Lease {
	t.Helper()
	d := disk.Open(t.Name())
	t.Cleanup(func() { d.Close() })
	return leaseOn(t, small, d)
}

func mustAcquire(t *testing.T, l *Lease, self leases.Owner, req Request, live leases.Liveness) *Grant {
	t.Helper()
	g, err := l.Acquire(t.Context(), self, req, live)
	if err != nil {
		t.Fatalf("%v: %v", self, err)
	}
	return g
}

func blockOf(t *testing.T, disk *memdisk.Disk, host uint64) ondisk.HostBlock {
	t.Helper()
	hb, err := ondisk.DecodeHostBlock(disk.Bytes(small.BlockOffset(host), small.Sector))
	if err != nil {
		t.Fatal(err)
	}
	return hb
}

func leaderOf(t *testing.T, disk *memdisk.Disk) ondisk.Leader {
	t.Helper()
	leader, err := ondisk.DecodeLeader(disk.Bytes(0, small.Sector))
	if err != nil {
		t.Fatal(err)
	}
	return leader
}

// vote is the part of a block that an acceptor must not forget.
func vote(b ondisk.HostBlock) [6]uint64 {
	return [6]uint64{b.MBal, b.Bal, b.Inp, b.Inp2, b.Inp3, b.LVer}
}

// TestValueBlockStaysInItsArea is hole 9.1: stock's value block is sector 2002 whatever the size of the area.
func TestValueBlockStaysInItsArea(t *testing.T) {
	for _, g := range ondisk.Geometries() {
		t.Run(fmt.Sprint(g), func(t *testing.T) { synctest.Test(t, func(t *testing.T) { valueInArea(t, g) }) })
	}
}

func valueInArea(t *testing.T, g ondisk.Geometry) {
	const size = 16 * ondisk.MiB
	disk := memdisk.New(memdisk.Config{SectorSize: g.Sector, Size: size})
	disk.Poke(0, bytes.Repeat([]byte{0xA5}, size))
	area := int64(g.Align)
	stock := area + int64(g.Sector)*2002
	victim := stock / area * area
	disk.Poke(area, ondisk.FormatResource(g, testSpace, testName, 0))
	if victim != area {
		disk.Poke(victim, ondisk.FormatResource(g, testSpace, leases.NameOf("VICTIM"), 0))
	}
	before := disk.Bytes(0, size)
	open := func(name string, off int64) *Lease {
		d := disk.Open(name)
		t.Cleanup(func() { d.Close() })
		l, err := New(Config{
			Space: testSpace, Name: leases.NameOf(name), Disks: []Disk{{d, off}}, Geometry: g,
			Times: timeouts.Set{IO: 2, Fire: 60}, Clock: monotime.At(1000e9, nil),
		})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	l := open("RES1", area)
	withValue := Request{Mode: leases.Exclusive, LVB: true}
	got, err := l.Acquire(t.Context(), host(1, 1), withValue, oracle{})
	if inside := stock+int64(g.Sector) <= area+int64(g.Align); inside != (err == nil) {
		t.Fatalf("value block inside its area: %v; acquire: %v", inside, err)
	}
	if err != nil {
		wantKind(t, err, leases.Invalid)
		if l.Unsettled() {
			t.Error("the refusal left something behind")
		}
		// Whatever the refused acquire did, the lease is free for others.
		other := open("RES1", area)
		theirs := mustAcquire(t, other, host(2, 1), exclusive, oracle{})
		if err := other.Release(t.Context(), theirs, ""); err != nil {
			t.Fatal(err)
		}
		got = mustAcquire(t, l, host(1, 1), exclusive, oracle{})
		wantKind(t, got.SetLVB([]byte("value")), leases.Invalid)
	} else if err := got.SetLVB(bytes.Repeat([]byte{1}, g.Sector)); err != nil {
		t.Fatal(err)
	}
	if err := l.Convert(t.Context(), got, leases.Shared, false, oracle{}); err != nil {
		t.Error(err)
	}
	if err := l.Release(t.Context(), got, ""); err != nil {
		t.Error(err)
	}
	after := disk.Bytes(0, size)
	copy(after[area:area+int64(g.Align)], before[area:])
	if !bytes.Equal(before, after) {
		t.Error("bytes outside the area have changed")
	}
	if victim == area {
		return
	}
	// What stock does: the victim cannot be acquired any more.
	neighbour := open("VICTIM", victim)
	ng := mustAcquire(t, neighbour, host(1, 1), exclusive, oracle{})
	if err := neighbour.Release(t.Context(), ng, ""); err != nil {
		t.Fatal(err)
	}
	disk.Poke(stock, bytes.Repeat([]byte{1}, g.Sector))
	_, err = neighbour.Acquire(t.Context(), host(2, 1), exclusive, oracle{})
	wantKind(t, err, leases.BlockChecksum)
}

// TestOldIncarnationIsNotUs is hole 9.2: a ballot adopts a value of an older generation of a host that has
// come back since. Stock compares the host id alone.
func TestOldIncarnationIsNotUs(t *testing.T) {
	old := ondisk.HostBlock{DBlock: ondisk.DBlock{MBal: 7009, Bal: 7009, Inp: 1, Inp2: 1, Inp3: 1234, LVer: 1}}
	place := func(t *testing.T) *memdisk.Disk {
		disk := formatted(t, small, 16)
		sector := make([]byte, small.Sector)
		block := old
		block.Encode(sector)
		disk.Poke(small.BlockOffset(9), sector)
		return disk
	}
	// The generations as the delta leases have them now.
	present := []leases.Owner{host(1, 2), host(2, 1), host(3, 1)}
	live := oracle{host(1, 1): leases.Free}

	// Stock: the ballot must adopt what block 9 chose, success is judged by the host id, and an owner whose
	// delta generation is beyond the leader's is gone.
	grants := 0
	decided := host(leases.HostID(old.Inp), leases.Generation(old.Inp2))
	for _, self := range present[:2] {
		switch gone := present[0].Generation > decided.Generation; {
		case decided.Host == self.Host:
			grants++
		case gone:
			grants++
		}
	}
	if grants != 2 {
		t.Fatalf("the model of stock grants the lease %d times: it shows no hole", grants)
	}

	for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		synctest.Test(t, func(t *testing.T) {
			disk := place(t)
			var winner *Grant
			for _, i := range order {
				g, err := openLease(t, disk).Acquire(t.Context(), present[i], exclusive, live)
				switch {
				case err != nil && winner == nil:
					t.Errorf("order %v: %v cannot have a lease that nobody holds: %v", order, present[i], err)
				case err != nil:
					wantKind(t, err, leases.Held)
				case winner != nil:
					t.Errorf("order %v: granted to %v, then to %v", order, winner.Owner, g.Owner)
				default:
					winner = g
					leader := leaderOf(t, disk)
					got := host(leases.HostID(leader.OwnerID), leases.Generation(leader.OwnerGeneration))
					if got != present[i] || leader.LVer != g.Version || leader.Timestamp == 0 {
						t.Errorf("order %v: %v was told that it owns, the leader says %v, lver %d", order,
							present[i], got, leader.LVer)
					}
				}
			}
		})
	}
}

// twoFaced knows what a cache would say and what a read of the disk says.
type twoFaced struct {
	cached, fresh map[leases.Owner]leases.Verdict
	err           error
	asked         []leases.Owner
}

func (f *twoFaced) Probe(_ context.Context, o leases.Owner) (leases.Verdict, error) {
	f.asked = append(f.asked, o)
	return f.fresh[o], f.err
}

// stockGrants says whether stock finds no live sharer: it asks the cache.
func (f *twoFaced) stockGrants(sharers ...leases.Owner) bool {
	for _, s := range sharers {
		if !f.cached[s].Gone() {
			return false
		}
	}
	return true
}

// TestSharersAreAskedAfresh is hole 9.4: a shared holder is seen dead by a stale cache only.
func TestSharersAreAskedAfresh(t *testing.T) {
	type verdicts = map[leases.Owner]leases.Verdict
	dead := verdicts{host(3, 1): leases.Dead, host(5, 7): leases.Free}
	cases := []struct {
		name  string
		fresh verdicts
		err   error
		asked int // of the two sharers, in the order of host ids
	}{
		{"first alive", verdicts{host(3, 1): leases.Alive, host(5, 7): leases.Dead}, nil, 1},
		{"first unknown", verdicts{host(3, 1): leases.Unknown, host(5, 7): leases.Dead}, nil, 1},
		{"second alive", verdicts{host(3, 1): leases.Dead, host(5, 7): leases.Alive}, nil, 2},
		{"second failing", verdicts{host(3, 1): leases.Free, host(5, 7): leases.Failing}, nil, 2},
		{"no answer", dead, errors.New("the delta lease cannot be read"), 1},
		{"both dead", dead, nil, 2},
	}
	for _, convert := range []bool{false, true} {
		for _, c := range cases {
			synctest.Test(t, func(t *testing.T) {
				disk := formatted(t, small, 8)
				sharing := Request{Mode: leases.Shared}
				mustAcquire(t, openLease(t, disk), host(3, 1), sharing, oracle{})
				mustAcquire(t, openLease(t, disk), host(5, 7), sharing, oracle{})
				live := &twoFaced{cached: dead, fresh: c.fresh, err: c.err}
				if !live.stockGrants(host(3, 1), host(5, 7)) {
					t.Fatal("the model of stock refuses: it shows no hole")
				}
				l := openLease(t, disk)
				var err error
				if convert {
					g := mustAcquire(t, l, host(1, 1), sharing, oracle{})
					err = l.Convert(t.Context(), g, leases.Exclusive, false, live)
				} else {
					_, err = l.Acquire(t.Context(), host(1, 1), exclusive, live)
				}
				where := fmt.Sprintf("%s, convert %v", c.name, convert)
				grants := c.err == nil && c.fresh[host(3, 1)].Gone() && c.fresh[host(5, 7)].Gone()
				if grants != (err == nil) {
					t.Errorf("%s: %v", where, err)
				}
				if !grants && c.err == nil {
					wantKind(t, err, leases.SharedHeld)
				}
				if len(live.asked) < c.asked {
					t.Errorf("%s: only %v were asked about", where, live.asked)
				}
				for _, o := range []leases.Owner{host(3, 1), host(5, 7)} {
					if b := blockOf(t, disk, uint64(o.Host)); !b.Shared() && c.fresh[o] != leases.Dead {
						t.Errorf("%s: the mark of %v was cleared, which is %v", where, o, c.fresh[o])
					}
				}
			})
		}
	}
}

// TestSharersAreAskedEachTime: a verdict is not kept for the next acquire.
func TestSharersAreAskedEachTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := formatted(t, small, 8)
		mustAcquire(t, openLease(t, disk), host(3, 1), Request{Mode: leases.Shared}, oracle{})
		l := openLease(t, disk)
		for i, v := range []leases.Verdict{leases.Alive, leases.Failing, leases.Dead} {
			live := &twoFaced{fresh: map[leases.Owner]leases.Verdict{host(3, 1): v}}
			_, err := l.Acquire(t.Context(), host(1, 1), exclusive, live)
			if (err == nil) != v.Gone() || len(live.asked) != 1 {
				t.Errorf("acquire %d, sharer %v: asked about %v, got %v", i, v, live.asked, err)
			}
		}
	})
}

// TestVotesAreKept is hole 9.5: stock writes zeros over votes when a shared acquire fails, when a proposal is
// withdrawn, and when the mark of a dead sharer is cleared.
func TestVotesAreKept(t *testing.T) {
	sharing := Request{Mode: leases.Shared}
	cases := []struct {
		name  string
		voter uint64
		run   func(t *testing.T, disk *memdisk.Disk) (before ondisk.HostBlock)
	}{
		{"failed shared acquire", 3, func(t *testing.T, disk *memdisk.Disk) ondisk.HostBlock {
			l := openLease(t, disk)
			if err := l.Release(t.Context(), mustAcquire(t, l, host(3, 1), exclusive, oracle{}), ""); err != nil {
				t.Fatal(err)
			}
			mustAcquire(t, openLease(t, disk), host(1, 1), exclusive, oracle{})
			before := blockOf(t, disk, 3)
			_, err := l.Acquire(t.Context(), host(3, 1), sharing, oracle{})
			wantKind(t, err, leases.Held)
			return before
		}},
		{"clearing a dead sharer", 3, func(t *testing.T, disk *memdisk.Disk) ondisk.HostBlock {
			mustAcquire(t, openLease(t, disk), host(3, 1), sharing, oracle{})
			before := blockOf(t, disk, 3)
			dead := oracle{host(3, 1): leases.Dead}
			mustAcquire(t, openLease(t, disk), host(1, 1), exclusive, dead)
			if b := blockOf(t, disk, 3); b.Shared() {
				t.Error("the mark of the dead sharer is still there")
			}
			return before
		}},
		{"withdrawal after phase 2", 3, func(t *testing.T, disk *memdisk.Disk) ondisk.HostBlock {
			return withdrawn(t, disk, faulty.On(faulty.Read, faulty.Fail(nil)).From(2).Times(1))
		}},
		{"withdrawal after the commit failed", 3, func(t *testing.T, disk *memdisk.Disk) ondisk.HostBlock {
			return withdrawn(t, disk, faulty.On(faulty.Write, faulty.Fail(nil)).From(2).Times(1))
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk := formatted(t, small, 8)
				before := c.run(t, disk)
				after := blockOf(t, disk, c.voter)
				if before.Bal == 0 || before.Inp == 0 {
					t.Fatalf("no vote to be kept: %+v", before)
				}
				if vote(before) != vote(after) {
					t.Errorf("vote of host %d was %v, is %v", c.voter, vote(before), vote(after))
				}
			})
		})
	}
}

// withdrawn lets host 3 fail to acquire by rule and settle. It returns its block as the ballot wrote it last.
func withdrawn(t *testing.T, disk *memdisk.Disk, rule *faulty.Match) ondisk.HostBlock {
	t.Helper()
	dev := faulty.Wrap(disk.Open("3"))
	t.Cleanup(func() { dev.Close() })
	dev.Add(rule)
	var last ondisk.HostBlock
	l := leaseOn(t, small, afterWrites{dev, func(off int64) {
		if b := blockOf(t, disk, 3); off == small.BlockOffset(3) && !b.Released() {
			last = b
		}
	}})
	_, err := l.Acquire(t.Context(), host(3, 1), exclusive, oracle{})
	if err == nil || rule.Fired() != 1 {
		t.Fatalf("acquired although the rule fired %d times: %v", rule.Fired(), err)
	}
	if err := l.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if b := blockOf(t, disk, 3); !b.Released() {
		t.Error("withdrawn without a mark")
	}
	return last
}

// afterWrites calls back after each write that succeeded, in the writer's goroutine.
type afterWrites struct {
	device.Device
	do func(off int64)
}

func (d afterWrites) Write(ctx context.Context, off int64, b *device.Buffer) error {
	err := d.Device.Write(ctx, off, b)
	if err == nil {
		d.do(off)
	}
	return err
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
			_, err := l.Acquire(t.Context(), host(3, 1), exclusive, oracle{})
			wantKind(t, err, leases.Timeout)
			if !l.Unsettled() {
				t.Error("a write is in flight and the lease counts as settled")
			}
			if stock {
				sector := make([]byte, small.Sector)
				(&ondisk.HostBlock{DBlock: ondisk.DBlock{Flags: ondisk.DBlockReleased}}).Encode(sector)
				disk.Poke(small.BlockOffset(3), sector)
			}
			two, err := openLease(t, disk).Acquire(t.Context(), host(2, 1), exclusive, oracle{})
			twice := err == nil && two.Version == 1
			gate.Release()
			time.Sleep(time.Second)
			if twice != stock {
				t.Errorf("forgetting %v: version 1 decided twice is %v: %+v, %v", stock, twice, two, err)
			}
			if leader := leaderOf(t, disk); leader.OwnerID != 3 || leader.LVer != 1 {
				t.Errorf("the late write did not land: owner %d, lver %d", leader.OwnerID, leader.LVer)
			}
			if stock {
				return
			}
			settle(t, "after the late write", l)
			if g := mustAcquire(t, openLease(t, disk), host(2, 1), exclusive, oracle{}); g.Version != 2 {
				t.Errorf("after host 3 withdrew: version %d, want 2", g.Version)
			}
		})
	}
}

// TestRefusedConvertLeavesNothingOwned is hole 9.9: a convert to exclusive is refused, and meanwhile another
// host has published our value again, so the leader is not ours to free.
func TestRefusedConvertLeavesNothingOwned(t *testing.T) {
	for _, republished := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			disk := formatted(t, small, 8)
			dev := disk.Open("1")
			defer dev.Close()
			var atCommit ondisk.HostBlock
			converting := false
			l := leaseOn(t, small, afterWrites{dev, func(off int64) {
				if leader := leaderOf(t, disk); converting && off == 0 && leader.Timestamp != 0 {
					atCommit = blockOf(t, disk, 1)
					if republished {
						leader.WriteID, leader.WriteGeneration = 2, 1
						sector := disk.Bytes(0, small.Sector)
						leader.Encode(sector)
						disk.Poke(0, sector)
					}
				}
			}})
			g := mustAcquire(t, l, host(1, 1), Request{Mode: leases.Shared}, oracle{})
			mustAcquire(t, openLease(t, disk), host(3, 1), Request{Mode: leases.Shared}, oracle{})
			converting = true
			wantKind(t, l.Convert(t.Context(), g, leases.Exclusive, false, oracle{}), leases.SharedHeld)
			leader, block := leaderOf(t, disk), blockOf(t, disk, 1)

			// A leader counts as held unless it is free or, where its owner did not write it, the owner's
			// block is released. Stock leaves the block as it was at the commit.
			owned := func(b ondisk.HostBlock) bool {
				return leader.Timestamp != 0 && (leader.WriteID == leader.OwnerID || !b.Released())
			}
			if got, want := owned(atCommit), republished; got != want {
				t.Errorf("republished %v: with stock's block owned is %v", republished, got)
			}
			if owned(block) || !block.Shared() || block.Mode.Generation != 1 || vote(block) != vote(atCommit) {
				t.Errorf("republished %v: leader %+v, block %+v, at the commit %+v", republished, leader, block, atCommit)
			}
			if g.Mode != leases.Shared || l.Unsettled() {
				t.Errorf("republished %v: mode %v, unsettled %v", republished, g.Mode, l.Unsettled())
			}
			// Others share it at once, although host 1 is alive.
			mustAcquire(t, openLease(t, disk), host(4, 1), Request{Mode: leases.Shared}, oracle{})
			_, owners, err := openLease(t, disk).Owners(t.Context())
			if err != nil || len(owners) != 3 {
				t.Errorf("republished %v: owners %v, %v; want three that share", republished, owners, err)
			}
			for _, o := range owners {
				if o.Mode != leases.Shared {
					t.Errorf("republished %v: %v owns exclusively", republished, o.Owner)
				}
			}
		})
	}
}
