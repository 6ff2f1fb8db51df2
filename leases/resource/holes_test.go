package resource

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device/memdisk"
	"github.com/tenurelock/tenure/leases/monotime"
	"github.com/tenurelock/tenure/leases/ondisk"
	"github.com/tenurelock/tenure/leases/timeouts"
)

// Each test here is about a safety hole of stock sanlock 3.8.5 (spec ondisk 9; votes_test.go and
// records_test.go have more). It says stock's rule in a few lines, shows that the rule does harm in the state
// that it sets up, and that we do not do that harm.

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
		if !bytes.Equal(before, disk.Bytes(0, size)) || l.Unsettled() {
			t.Error("a value block that cannot be was refused after the disk was written")
		}
		// The lease is free for others, and for us without a value.
		other := open("RES1", area)
		theirs := mustAcquire(t, other, host(2, 1), ex, oracle{})
		if err := other.Release(t.Context(), theirs, ""); err != nil {
			t.Fatal(err)
		}
		got = mustAcquire(t, l, host(1, 1), ex, oracle{})
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
	ng := mustAcquire(t, neighbour, host(1, 1), ex, oracle{})
	if err := neighbour.Release(t.Context(), ng, ""); err != nil {
		t.Fatal(err)
	}
	disk.Poke(stock, bytes.Repeat([]byte{1}, g.Sector))
	_, err = neighbour.Acquire(t.Context(), host(2, 1), ex, oracle{})
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
				g, err := openLease(t, disk).Acquire(t.Context(), present[i], ex, live)
				switch {
				case err != nil && winner == nil:
					t.Errorf("order %v: %v cannot have a lease that nobody holds: %v", order, present[i], err)
				case err != nil:
					wantKind(t, err, leases.Held)
				case winner != nil:
					t.Errorf("order %v: granted to %v, then to %v", order, winner.Owner, g.Owner)
				default:
					winner = g
					if g.Version != 2 {
						t.Errorf("order %v: version %d, want 2 after the round of the old vote", order, g.Version)
					}
					leader := leaderAt(t, disk)
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

// TestSlowOwnerIsOutwaited is hole 9.3: an owner with an io_timeout of 30 s is dead after 300 s of silence.
// Stock, when it has not yet looked at the owner, waits by its own io_timeout.
func TestSlowOwnerIsOutwaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := formatted(t, small, 16)
		a, b := openLease(t, disk), openLease(t, disk)
		if _, err := a.Acquire(t.Context(), host(1, 1), ex, oracle{}); err != nil {
			t.Fatal(err)
		}
		theirs, ours := timeouts.Set{IO: 30, Fire: 60}, timeouts.Set{IO: 2, Fire: 60}
		if ours.HostDead() >= theirs.HostDead() {
			t.Error("stock would not take it too early: the test is about something else")
		}
		began := time.Now()
		live := &slow{dead: began.Add(theirs.HostDead())}
		g, err := b.Acquire(t.Context(), host(2, 1), ex, live)
		if err != nil {
			t.Fatal(err)
		}
		waited := time.Since(began)
		if waited < theirs.HostDead() || waited > theirs.HostDead()+2*time.Second || g.Version != 2 {
			t.Errorf("version %d after %v, want 2 after %v", g.Version, waited, theirs.HostDead())
		}
		if want := int(theirs.HostDead() / time.Second); live.probes < want || live.probes > want+2 {
			t.Errorf("%d looks at the owner, want one a second", live.probes)
		}
	})
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
				sharing := sh
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
					_, err = l.Acquire(t.Context(), host(1, 1), ex, live)
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
					if b := blockAt(t, disk, uint64(o.Host)); !b.Shared() && c.fresh[o] != leases.Dead {
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
		mustAcquire(t, openLease(t, disk), host(3, 1), sh, oracle{})
		l := openLease(t, disk)
		for i, v := range []leases.Verdict{leases.Alive, leases.Failing, leases.Dead} {
			live := &twoFaced{fresh: map[leases.Owner]leases.Verdict{host(3, 1): v}}
			_, err := l.Acquire(t.Context(), host(1, 1), ex, live)
			if (err == nil) != v.Gone() || len(live.asked) != 1 {
				t.Errorf("acquire %d, sharer %v: asked about %v, got %v", i, v, live.asked, err)
			}
		}
	})
}

// TestSharerIsNamedAfresh is hole 9.4 as well: the question is about the incarnation that the sharer's block
// names when it is asked.
func TestSharerIsNamedAfresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := formatted(t, small, 16)
		if _, err := openLease(t, disk).Acquire(t.Context(), host(3, 1), sh, oracle{}); err != nil {
			t.Fatal(err)
		}
		// What stock saw at its last renewal, before host 3 had joined.
		cached := struct{ timestamp uint64 }{0}
		if dead := cached.timestamp == 0; !dead {
			t.Error("stock would not take it from a sharer: the test is about something else")
		}
		dev := disk.Open("1")
		defer dev.Close()
		again := func(op string, off int64, n int) {
			if op == "read" && off == small.BlockOffset(3) && n == 512 {
				// Host 3 was reset, has joined again and shares the lease again.
				hb := blockAt(t, disk, 3)
				hb.Mode.Generation = 2
				putBlock(disk, 3, hb)
			}
		}
		l := leaseOn(t, small, hooked{dev, again})
		live := &twoFaced{fresh: map[leases.Owner]leases.Verdict{host(3, 1): leases.Free}}
		_, err := l.Acquire(t.Context(), host(1, 1), ex, live)
		wantKind(t, err, leases.SharedHeld)
		if want := []leases.Owner{host(3, 2)}; !slices.Equal(live.asked, want) {
			t.Errorf("asked about %v, want %v", live.asked, want)
		}
		if hb := blockAt(t, disk, 3); !hb.Shared() {
			t.Error("the mark of a living sharer was cleared")
		}
		if l := leaderAt(t, disk); l.Timestamp != 0 || l.LVer != 2 {
			t.Errorf("after the refusal the leader has version %d, timestamp %d; want 2, 0", l.LVer, l.Timestamp)
		}
	})
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
				if leader := leaderAt(t, disk); converting && off == 0 && leader.Timestamp != 0 {
					atCommit = blockAt(t, disk, 1)
					if republished {
						leader.WriteID, leader.WriteGeneration = 2, 1
						putLeader(disk, leader)
					}
				}
			}})
			g := mustAcquire(t, l, host(1, 1), sh, oracle{})
			three, four := openLease(t, disk), openLease(t, disk)
			g3 := mustAcquire(t, three, host(3, 1), sh, oracle{})
			converting = true
			wantKind(t, l.Convert(t.Context(), g, leases.Exclusive, false, oracle{}), leases.SharedHeld)
			leader, block := leaderAt(t, disk), blockAt(t, disk, 1)

			// A leader counts as held unless it is free or, where its owner did not write it, the owner's
			// block is released. Stock leaves the block as it was at the commit.
			owned := func(b ondisk.HostBlock) bool {
				return leader.Timestamp != 0 && (leader.WriteID == leader.OwnerID || !b.Released())
			}
			if got, want := owned(atCommit), republished; got != want {
				t.Errorf("republished %v: with stock's block owned is %v", republished, got)
			}
			if block.LVer != 3 || block.Inp != 1 || vote(block) != vote(atCommit) {
				t.Errorf("republished %v: vote %v, at the commit %v; want host 1's in round 3", republished,
					vote(block), vote(atCommit))
			}
			if owned(block) || !block.Released() || !block.Shared() || block.Mode.Generation != 1 {
				t.Errorf("republished %v: leader %+v, block %+v, at the commit %+v", republished, leader, block, atCommit)
			}
			if g.Mode != leases.Shared || l.Unsettled() {
				t.Errorf("republished %v: mode %v, unsettled %v", republished, g.Mode, l.Unsettled())
			}
			// Others share it at once, although host 1 is alive.
			g4 := mustAcquire(t, four, host(4, 1), sh, oracle{})
			_, owners, err := openLease(t, disk).Owners(t.Context())
			if err != nil || len(owners) != 3 {
				t.Errorf("republished %v: owners %v, %v; want three that share", republished, owners, err)
			}
			for _, o := range owners {
				if o.Mode != leases.Shared {
					t.Errorf("republished %v: %v owns exclusively", republished, o.Owner)
				}
			}
			// Each can give back what it holds, and then the lease can be had.
			for _, err := range []error{
				l.Release(t.Context(), g, ""), three.Release(t.Context(), g3, ""), four.Release(t.Context(), g4, ""),
			} {
				if err != nil {
					t.Error(err)
				}
			}
			mustAcquire(t, four, host(4, 1), ex, oracle{})
		})
	}
}
