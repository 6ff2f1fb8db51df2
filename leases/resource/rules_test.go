package resource

import (
	"bytes"
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device"
	"github.com/tenurelock/tenure/leases/device/faulty"
	"github.com/tenurelock/tenure/leases/device/memdisk"
	"github.com/tenurelock/tenure/leases/monotime"
	"github.com/tenurelock/tenure/leases/ondisk"
	"github.com/tenurelock/tenure/leases/timeouts"
	"github.com/tenurelock/tenure/paxos"
)

// This file has a test for each hole in stock's leases (spec ondisk 9): a few lines that follow stock's rule
// show how it goes wrong, and then ours is asked for the same.

// putBlock puts a host block on the disk with a good checksum.
func putBlock(disk *memdisk.Disk, g ondisk.Geometry, id uint64, hb ondisk.HostBlock) {
	sector := make([]byte, g.Sector)
	hb.Encode(sector)
	disk.Poke(g.BlockOffset(id), sector)
}

func blockAt(t *testing.T, disk *memdisk.Disk, g ondisk.Geometry, id uint64) ondisk.HostBlock {
	t.Helper()
	hb, err := ondisk.DecodeHostBlock(disk.Bytes(g.BlockOffset(id), g.Sector))
	if err != nil {
		t.Fatal(err)
	}
	return hb
}

func leaderAt(t *testing.T, disk *memdisk.Disk) ondisk.Leader {
	t.Helper()
	l, err := ondisk.DecodeLeader(disk.Bytes(0, 512))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// opened returns a host's lease on a disk, closed at the end of the test.
func opened(t *testing.T, disk *memdisk.Disk, g ondisk.Geometry, name string) *Lease {
	t.Helper()
	dev := disk.Open(name)
	t.Cleanup(func() { dev.Close() })
	return leaseOn(t, g, dev)
}

var ex, sh = Request{Mode: leases.Exclusive}, Request{Mode: leases.Shared}

// TestHoleValueBlockOutside is 9.1: stock takes sector 2002 for the value block whatever the area's size.
func TestHoleValueBlockOutside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := ondisk.Geometry{Sector: 4096, Align: ondisk.MiB}
		disk := memdisk.New(memdisk.Config{Size: 12 * ondisk.MiB})
		for i := range int64(12) {
			disk.Poke(i*ondisk.MiB, ondisk.FormatResource(g, testSpace, testName, 0))
		}
		at := func(area int64) *Lease {
			dev := disk.Open("1")
			t.Cleanup(func() { dev.Close() })
			l, err := New(Config{
				Space: testSpace, Name: testName, Geometry: g, Disks: []Disk{{Device: dev, Offset: area * ondisk.MiB}},
				Times: timeouts.Set{IO: 2, Fire: 60}, Clock: monotime.At(1000e9, nil),
			})
			if err != nil {
				t.Fatal(err)
			}
			return l
		}
		before := disk.Bytes(0, 12*ondisk.MiB)
		l := at(1)
		_, err := l.Acquire(t.Context(), host(1, 1), Request{Mode: leases.Exclusive, LVB: true}, oracle{})
		wantKind(t, err, leases.Invalid)
		if !bytes.Equal(before, disk.Bytes(0, 12*ondisk.MiB)) || l.Unsettled() {
			t.Error("a value block that cannot be was refused after the disk was written")
		}
		// Stock's write of the value of the resource at 1 MiB.
		disk.Poke(ondisk.MiB+2002*4096, []byte("value"))
		_, err = at(8).Acquire(t.Context(), host(1, 1), ex, oracle{})
		wantKind(t, err, leases.BlockChecksum) // the resource at 8 MiB is lost: that is what it costs
		if _, err := at(7).Acquire(t.Context(), host(1, 1), ex, oracle{}); err != nil {
			t.Error(err)
		}
	})
}

// TestHoleOldGeneration is 9.2: a ballot adopts what an earlier incarnation of ours had proposed.
func TestHoleOldGeneration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := formatted(t, small, 16)
		vote := ondisk.DBlock{MBal: 7009, Bal: 7009, Inp: 1, Inp2: 1, Inp3: 1234, LVer: 1}
		putBlock(disk, small, 9, ondisk.HostBlock{DBlock: vote})
		self := host(1, 2)
		live := oracle{host(1, 1): leases.Free, host(9, 1): leases.Dead}

		// Stock looks at the host id alone, and the next host at the generation.
		granted := leases.HostID(vote.Inp) == self.Host
		next := live[host(1, leases.Generation(vote.Inp2))].Gone()
		if !granted || !next {
			t.Error("stock would not grant it twice: the test is about something else")
		}

		a, b := opened(t, disk, small, "1"), opened(t, disk, small, "2")
		g, err := a.Acquire(t.Context(), self, ex, live)
		if err != nil {
			t.Fatal(err)
		}
		l := leaderAt(t, disk)
		named := host(leases.HostID(l.OwnerID), leases.Generation(l.OwnerGeneration))
		if named != self || g.Version != 2 {
			t.Errorf("version %d, the leader names %v; want version 2 and %v", g.Version, named, self)
		}
		_, err = b.Acquire(t.Context(), host(2, 1), ex, live)
		wantKind(t, err, leases.Held)
	})
}

// slow answers as a host does whose owner is silent for a time and then dead.
type slow struct {
	dead   time.Time
	probes int
}

func (s *slow) Probe(context.Context, leases.Owner) (leases.Verdict, error) {
	s.probes++
	if time.Now().Before(s.dead) {
		return leases.Failing, nil
	}
	return leases.Dead, nil
}

// TestHoleSlowOwner is 9.3: an owner with an io_timeout of 30 s is dead after 300 s of silence. Stock, when
// it has not yet looked at the owner, waits by its own io_timeout.
func TestHoleSlowOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := formatted(t, small, 16)
		a, b := opened(t, disk, small, "1"), opened(t, disk, small, "2")
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

// witness says which incarnations it was asked about.
type witness struct {
	oracle
	asked []leases.Owner
}

func (w *witness) Probe(ctx context.Context, o leases.Owner) (leases.Verdict, error) {
	w.asked = append(w.asked, o)
	return w.oracle.Probe(ctx, o)
}

// hooked calls before for each transfer.
type hooked struct {
	device.Device
	before func(op string, off int64, n int)
}

func (h hooked) Read(ctx context.Context, off int64, n int) (*device.Buffer, error) {
	h.before("read", off, n)
	return h.Device.Read(ctx, off, n)
}

func (h hooked) Write(ctx context.Context, off int64, b *device.Buffer) error {
	h.before("write", off, len(b.Bytes()))
	return h.Device.Write(ctx, off, b)
}

// TestHoleSharerJudgedByCache is 9.4: whether a sharer is alive is asked when it matters, for the incarnation
// that its block names then.
func TestHoleSharerJudgedByCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := formatted(t, small, 16)
		if _, err := opened(t, disk, small, "3").Acquire(t.Context(), host(3, 1), sh, oracle{}); err != nil {
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
				hb := blockAt(t, disk, small, 3)
				hb.Mode.Generation = 2
				putBlock(disk, small, 3, hb)
			}
		}
		l := leaseOn(t, small, hooked{dev, again})
		live := &witness{oracle: oracle{host(3, 1): leases.Free}}
		_, err := l.Acquire(t.Context(), host(1, 1), ex, live)
		wantKind(t, err, leases.SharedHeld)
		if want := []leases.Owner{host(3, 2)}; !slices.Equal(live.asked, want) {
			t.Errorf("asked about %v, want %v", live.asked, want)
		}
		if hb := blockAt(t, disk, small, 3); !hb.Shared() {
			t.Error("the mark of a living sharer was cleared")
		}
		if l := leaderAt(t, disk); l.Timestamp != 0 || l.LVer != 2 {
			t.Errorf("after the refusal the leader has version %d, timestamp %d; want 2, 0", l.LVer, l.Timestamp)
		}
	})
}

// TestHoleForgettingAcceptors is 9.5: what a host has voted for stays on the disk when a shared acquire is
// refused, when an acquire is withdrawn, and when the mark of a dead sharer is cleared.
func TestHoleForgettingAcceptors(t *testing.T) {
	vote := func(hb ondisk.HostBlock) paxos.Block {
		hb.Flags, hb.Mode = 0, ondisk.ModeBlock{}
		return block(&hb, hb.Check() != nil)
	}
	t.Run("refused shared acquire", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			disk := formatted(t, small, 16)
			b := opened(t, disk, small, "2")
			g, err := b.Acquire(t.Context(), host(2, 1), sh, oracle{})
			if err != nil {
				t.Fatal(err)
			}
			if err := b.Release(t.Context(), g, ""); err != nil {
				t.Fatal(err)
			}
			if _, err := opened(t, disk, small, "1").Acquire(t.Context(), host(1, 1), ex, oracle{}); err != nil {
				t.Fatal(err)
			}
			before := disk.Bytes(small.BlockOffset(2), 512)
			_, err = b.Acquire(t.Context(), host(2, 1), sh, oracle{})
			wantKind(t, err, leases.Held)
			if d := cmp.Diff(before, disk.Bytes(small.BlockOffset(2), 512)); d != "" {
				t.Error(d)
			}
		})
	})
	t.Run("withdrawn acquire", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			disk := formatted(t, small, 16)
			dev := faulty.Wrap(disk.Open("1"), faulty.OnIndex(5, faulty.Fail(errBroken)))
			defer dev.Close()
			_, err := leaseOn(t, small, dev).Acquire(t.Context(), host(1, 1), ex, oracle{})
			wantKind(t, err, leases.IO)
			own := paxos.Proposal{Host: 1, Generation: 1, Timestamp: 1000}
			want := paxos.Block{Mbal: 1, Bal: 1, Round: 1, Input: own}
			if hb := blockAt(t, disk, small, 1); vote(hb) != want || !hb.Released() {
				t.Errorf("block %+v, want the vote %+v, released", hb, want)
			}
		})
	})
	t.Run("dead sharer", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			disk := formatted(t, small, 16)
			if _, err := opened(t, disk, small, "2").Acquire(t.Context(), host(2, 1), sh, oracle{}); err != nil {
				t.Fatal(err)
			}
			before := blockAt(t, disk, small, 2)
			live := oracle{host(2, 1): leases.Dead}
			if _, err := opened(t, disk, small, "1").Acquire(t.Context(), host(1, 1), ex, live); err != nil {
				t.Fatal(err)
			}
			after := blockAt(t, disk, small, 2)
			if after.DBlock != before.DBlock || after.Shared() {
				t.Errorf("block %+v, want the vote of %+v and no mark", after, before)
			}
		})
	})
	t.Run("sharer that has come back", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			disk := formatted(t, small, 16)
			if _, err := opened(t, disk, small, "2").Acquire(t.Context(), host(2, 1), sh, oracle{}); err != nil {
				t.Fatal(err)
			}
			before := blockAt(t, disk, small, 2)
			live := oracle{host(2, 1): leases.Free}
			if _, err := opened(t, disk, small, "1").Acquire(t.Context(), host(1, 1), ex, live); err != nil {
				t.Fatal(err)
			}
			if after := blockAt(t, disk, small, 2); after != before {
				t.Errorf("block %+v, want %+v: it may be written by its host at any time", after, before)
			}
		})
	})
}

// TestHoleRefusedConvert is 9.9: a conversion that is refused leaves our vote marked released, so that the
// lease can be had although another host may have published our ownership.
func TestHoleRefusedConvert(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := formatted(t, small, 16)
		a, b := opened(t, disk, small, "1"), opened(t, disk, small, "2")
		ga, err := a.Acquire(t.Context(), host(1, 1), sh, oracle{})
		if err != nil {
			t.Fatal(err)
		}
		gb, err := b.Acquire(t.Context(), host(2, 1), sh, oracle{})
		if err != nil {
			t.Fatal(err)
		}
		wantKind(t, a.Convert(t.Context(), ga, leases.Exclusive, false, oracle{}), leases.SharedHeld)
		hb := blockAt(t, disk, small, 1)
		if !hb.Released() || !hb.Shared() || hb.Mode.Generation != 1 || hb.LVer != 3 || hb.Inp != 1 {
			t.Errorf("block after the refusal: %+v; want a vote in round 3, released, shared", hb)
		}
		if ga.Mode != leases.Shared {
			t.Errorf("held %v", ga.Mode)
		}
		// Both can still give back what they hold, and the lease can be had.
		for _, err := range []error{b.Release(t.Context(), gb, ""), a.Release(t.Context(), ga, "")} {
			if err != nil {
				t.Error(err)
			}
		}
		if _, err := b.Acquire(t.Context(), host(2, 1), ex, oracle{}); err != nil {
			t.Error(err)
		}
	})
}

// TestHoleInsaneLeader is 9.19: records that verify and cannot be true.
func TestHoleInsaneLeader(t *testing.T) {
	tests := map[string]func(*ondisk.Leader){
		"owner beyond max_hosts":     func(l *ondisk.Leader) { l.OwnerID, l.Timestamp = 3000, 5 },
		"owner is nobody":            func(l *ondisk.Leader) { l.Timestamp = 5 },
		"last owner beyond":          func(l *ondisk.Leader) { l.OwnerID = 1 << 60 },
		"num_hosts above max_hosts":  func(l *ondisk.Leader) { l.NumHosts = 3000 },
		"max_hosts above the area's": func(l *ondisk.Leader) { l.MaxHosts, l.NumHosts = 1<<40, 1<<40 },
		"max_hosts zero":             func(l *ondisk.Leader) { l.MaxHosts = 0 },
		"writer beyond max_hosts":    func(l *ondisk.Leader) { l.WriteID = 3000 },
		"sector size of nothing":     func(l *ondisk.Leader) { l.SectorSize = 0 },
		"flags of a newer sanlock":   func(l *ondisk.Leader) { l.Flags |= 0x1000 },
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk := formatted(t, small, 16)
				l := leaderAt(t, disk)
				spoil(&l)
				sector := make([]byte, 512)
				l.Encode(sector)
				disk.Poke(0, sector)
				_, err := opened(t, disk, small, "1").Acquire(t.Context(), host(1, 1), ex, oracle{})
				wantKind(t, err, leases.Corrupt)
				if !bytes.Equal(sector, disk.Bytes(0, 512)) {
					t.Error("the leader was written")
				}
			})
		})
	}
}

// TestUnknownPartsSurvive is 9.12 and 2.12: what we do not know in a leader, and tails of names, are still
// there after a round of acquire, convert and release.
func TestUnknownPartsSurvive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := formatted(t, small, 16)
		before := leaderAt(t, disk)
		before.Flags |= 0x8000
		before.Version = 0x00060009
		before.Unused1, before.Unused2, before.IOTimeout = 0x1122334455667788, 0x99aa, 0x1234
		copy(before.ResourceName[10:], "tail")
		copy(before.SpaceName[20:], "tail")
		copy(before.Reserved[:], "of a later day")
		sector := make([]byte, 512)
		before.Encode(sector)
		disk.Poke(0, sector)
		l := opened(t, disk, small, "1")
		l.cfg.AllowUnknownFlags = true
		g, err := l.Acquire(t.Context(), host(1, 1), ex, oracle{})
		if err != nil {
			t.Fatal(err)
		}
		for _, err := range []error{
			l.Convert(t.Context(), g, leases.Shared, false, oracle{}),
			l.Convert(t.Context(), g, leases.Exclusive, false, oracle{}),
			l.Release(t.Context(), g, ""),
		} {
			if err != nil {
				t.Error(err)
			}
		}
		after := leaderAt(t, disk)
		want := before
		want.OwnerID, want.OwnerGeneration, want.LVer, want.WriteID, want.WriteGeneration = 1, 1, 2, 1, 1
		want.WriteTimestamp = 1000
		want.Checksum = want.Sum()
		if d := cmp.Diff(want, after); d != "" {
			t.Error(d)
		}
	})
}

// TestGarbageIsTolerated is 6.6 and 9.7: bytes that are undefined, and sectors of hosts that take no part.
func TestGarbageIsTolerated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := formatted(t, small, 8)
		junk := bytes.Repeat([]byte("junk"), 512)
		putBlock(disk, small, 2, ondisk.HostBlock{DBlock: ondisk.DBlock{MBal: 2, LVer: 0}})
		disk.Poke(small.BlockOffset(2)+56, junk[:72])
		disk.Poke(small.BlockOffset(2)+132, junk[:4])
		disk.Poke(small.BlockOffset(2)+144, junk[:368])
		disk.Poke(small.BlockOffset(9), junk)
		l := opened(t, disk, small, "1")
		g, err := l.Acquire(t.Context(), host(1, 1), ex, oracle{})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Release(t.Context(), g, ""); err != nil {
			t.Fatal(err)
		}
		if _, err = opened(t, disk, small, "3").Acquire(t.Context(), host(3, 1), ex, oracle{}); err != nil {
			t.Error(err)
		}
	})
}

// TestFormerOwnerAboveNumHosts: stock lets an owner lower num_hosts below itself. Its block still tells
// whether it has the lease.
func TestFormerOwnerAboveNumHosts(t *testing.T) {
	for _, held := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			disk := formatted(t, small, 16)
			nine := opened(t, disk, small, "9")
			g, err := nine.Acquire(t.Context(), host(9, 1), ex, oracle{})
			if err != nil {
				t.Fatal(err)
			}
			if !held {
				if err := nine.Release(t.Context(), g, ""); err != nil {
					t.Fatal(err)
				}
			}
			l := leaderAt(t, disk)
			l.NumHosts = 4
			sector := make([]byte, 512)
			l.Encode(sector)
			disk.Poke(0, sector)
			one := opened(t, disk, small, "1")
			_, err = one.Acquire(t.Context(), host(1, 1), ex, oracle{})
			if held {
				wantKind(t, err, leases.Held)
				if err := nine.Release(t.Context(), g, ""); err != nil {
					t.Error("a host that was locked out cannot give back what it holds:", err)
				}
				_, err = one.Acquire(t.Context(), host(1, 1), ex, oracle{})
			}
			if err != nil {
				t.Error(err)
			}
			_, err = nine.Acquire(t.Context(), host(9, 1), ex, oracle{})
			wantKind(t, err, leases.BadNumHosts)
		})
	}
}

// TestLeaseWithoutItsName: who leaves the name out would share a lease with a local holder of its name, for the
// host is the same.
func TestLeaseWithoutItsName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := formatted(t, small, 0)
		d := disk.Open("nameless")
		t.Cleanup(func() { d.Close() })
		l, err := New(Config{
			Space: testSpace, Disks: []Disk{{d, 0}}, Geometry: small,
			Times: timeouts.Set{IO: 2, Fire: 60}, Clock: monotime.At(1000e9, nil),
		})
		if err != nil {
			t.Fatal(err)
		}
		mustAcquire(t, openLease(t, disk), host(1, 1), exclusive, oracle{})
		_, err = l.Acquire(t.Context(), host(1, 1), exclusive, oracle{})
		wantKind(t, err, leases.WrongResource)
		_, err = l.PutRequest(t.Context(), 9, 1, false)
		wantKind(t, err, leases.WrongResource)
	})
}
