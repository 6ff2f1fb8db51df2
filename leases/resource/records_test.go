package resource

import (
	"bytes"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/monotime"
	"github.com/tenurelock/tenure/leases/ondisk"
	"github.com/tenurelock/tenure/leases/timeouts"
)

// TestInsaneLeader is hole 9.19: records that verify and cannot be true.
func TestInsaneLeader(t *testing.T) {
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
				putLeader(disk, l)
				sector := disk.Bytes(0, small.Sector)
				_, err := openLease(t, disk).Acquire(t.Context(), host(1, 1), ex, oracle{})
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
		putLeader(disk, before)
		l := openLease(t, disk)
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
		putBlock(disk, 2, ondisk.HostBlock{DBlock: ondisk.DBlock{MBal: 2, LVer: 0}})
		disk.Poke(small.BlockOffset(2)+56, junk[:72])
		disk.Poke(small.BlockOffset(2)+132, junk[:4])
		disk.Poke(small.BlockOffset(2)+144, junk[:368])
		disk.Poke(small.BlockOffset(9), junk)
		l := openLease(t, disk)
		g, err := l.Acquire(t.Context(), host(1, 1), ex, oracle{})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Release(t.Context(), g, ""); err != nil {
			t.Fatal(err)
		}
		if _, err = openLease(t, disk).Acquire(t.Context(), host(3, 1), ex, oracle{}); err != nil {
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
			nine := openLease(t, disk)
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
			putLeader(disk, l)
			one := openLease(t, disk)
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
		mustAcquire(t, openLease(t, disk), host(1, 1), ex, oracle{})
		_, err = l.Acquire(t.Context(), host(1, 1), ex, oracle{})
		wantKind(t, err, leases.WrongResource)
		_, err = l.PutRequest(t.Context(), 9, 1, false)
		wantKind(t, err, leases.WrongResource)
	})
}

// TestSharerAboveNumHosts: stock reads only the blocks of the hosts that are to take part from now on, and
// grants the lease over one that shares it.
func TestSharerAboveNumHosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := formatted(t, small, 0)
		mustAcquire(t, openLease(t, disk), host(2, 1), sh, oracle{})
		few := Request{Mode: leases.Exclusive, NumHosts: 1}
		_, err := openLease(t, disk).Acquire(t.Context(), host(1, 1), few, oracle{})
		wantKind(t, err, leases.SharedHeld)
	})
}
