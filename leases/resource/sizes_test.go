package resource

import (
	"bytes"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device"
	"github.com/tenurelock/tenure/leases/device/faulty"
	"github.com/tenurelock/tenure/leases/device/memdisk"
	"github.com/tenurelock/tenure/leases/monotime"
	"github.com/tenurelock/tenure/leases/ondisk"
	"github.com/tenurelock/tenure/leases/timeouts"
	"github.com/tenurelock/tenure/paxos"
)

// What a lease reads before a leader has told it the sizes, and where the sizes that are told cannot be used.

// atOffset returns a host's lease at off, opened with the sizes of guess.
func atOffset(t *testing.T, disk *memdisk.Disk, off int64, guess ondisk.Geometry) *Lease {
	t.Helper()
	d := disk.Open("1")
	t.Cleanup(func() { d.Close() })
	l, err := New(Config{
		Space: testSpace, Name: testName, Disks: []Disk{{Device: d, Offset: off}}, Geometry: guess,
		Times: timeouts.Set{IO: 2, Fire: 60}, Clock: monotime.At(1000e9, nil),
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestSizesAreCorrected: whatever sizes were guessed that the device can have, the leader's are taken, by
// each operation that may be a lease's first, and nothing outside its area is written.
func TestSizesAreCorrected(t *testing.T) {
	first := map[string]func(*Lease) error{
		"acquire": func(l *Lease) error {
			g, err := l.Acquire(t.Context(), host(3, 1), ex, oracle{})
			if err != nil {
				return err
			}
			return l.Release(t.Context(), g, "")
		},
		"owners": func(l *Lease) error {
			_, _, err := l.Owners(t.Context())
			return err
		},
		"read":         func(l *Lease) error { _, err := l.ReadLeader(t.Context()); return err },
		"take request": func(l *Lease) error { _, err := l.TakeRequest(t.Context()); return err },
		"put request":  func(l *Lease) error { _, err := l.PutRequest(t.Context(), 0, 0, false); return err },
	}
	for _, real := range ondisk.Geometries() {
		for _, guess := range ondisk.Geometries() {
			t.Run(fmt.Sprint(real, guess), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { sizesCorrected(t, first, real, guess) })
			})
		}
	}
}

// sizesCorrected has the resource in the last area of a disk with small sectors, behind a pattern.
func sizesCorrected(t *testing.T, first map[string]func(*Lease) error, real, guess ondisk.Geometry) {
	const before = ondisk.MiB
	disk := memdisk.New(memdisk.Config{SectorSize: 512, Size: int64(before + real.Align)})
	pattern := bytes.Repeat([]byte{0xA5}, before)
	disk.Poke(0, pattern)
	disk.Poke(before, ondisk.FormatResource(real, testSpace, testName, 0))
	for name, do := range first {
		l := atOffset(t, disk, before, guess)
		if err := do(l); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if l.Geometry() != real || l.Unsettled() {
			t.Errorf("%s: sizes %v, unsettled %v", name, l.Geometry(), l.Unsettled())
		}
	}
	if !bytes.Equal(pattern, disk.Bytes(0, before)) {
		t.Error("bytes before the area have changed")
	}
	end := int(real.BlockOffset(real.MaxHosts() + 1))
	if tail := disk.Bytes(before+int64(end), real.Align-end); bytes.Count(tail, []byte{0}) != len(tail) {
		t.Error("bytes behind the blocks have changed")
	}
}

// TestLargerSectorsThanTheSpace: a resource on a device whose sectors are larger than the lockspace's.
func TestLargerSectorsThanTheSpace(t *testing.T) {
	for _, real := range ondisk.Geometries()[1:] {
		synctest.Test(t, func(t *testing.T) {
			l := atOffset(t, formatted(t, real, 0), 0, small)
			if want := ondisk.DefaultGeometry(4096); l.Geometry() != want {
				t.Errorf("before a leader was read: %v, want %v", l.Geometry(), want)
			}
			g, err := l.Acquire(t.Context(), host(1, 1), ex, oracle{})
			if err != nil || g.Geometry != real {
				t.Fatalf("%+v, %v; want %v", g, err, real)
			}
			if err := l.Release(t.Context(), g, ""); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestNoUsableLeader: without a leader that verifies, nothing is granted, nothing is written, and each
// operation says which check failed.
func TestNoUsableLeader(t *testing.T) {
	spoiled := map[string]struct {
		spoil func(*ondisk.Leader)
		want  leases.Kind
	}{
		"zeros":         {nil, leases.BadMagic},
		"cleared":       {func(l *ondisk.Leader) { l.Magic = 0x11282016 }, leases.BadMagic},
		"delta lease":   {func(l *ondisk.Leader) { l.Magic = ondisk.DeltaMagic }, leases.BadMagic},
		"major version": {func(l *ondisk.Leader) { l.Version += 0x10000 }, leases.BadVersion},
		"other space":   {func(l *ondisk.Leader) { l.SpaceName = leases.NameOf("LS2") }, leases.WrongSpace},
		"other name":    {func(l *ondisk.Leader) { l.ResourceName = leases.NameOf("RES2") }, leases.WrongResource},
		"sector 1024":   {func(l *ondisk.Leader) { l.SectorSize = 1024 }, leases.Corrupt},
		"sector 0":      {func(l *ondisk.Leader) { l.SectorSize = 0 }, leases.Corrupt},
		"sector huge":   {func(l *ondisk.Leader) { l.SectorSize = 1 << 31 }, leases.Corrupt},
		"two aligns":    {func(l *ondisk.Leader) { l.SectorSize, l.Flags = 512, 0x60 }, leases.Corrupt},
		"small and 8 M": {func(l *ondisk.Leader) { l.Flags = 0x80 }, leases.Corrupt},
	}
	for name, c := range spoiled {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk := formatted(t, small, 8)
				if leader := leaderAt(t, disk); c.spoil == nil {
					disk.Poke(0, make([]byte, small.Sector))
				} else {
					c.spoil(&leader)
					putLeader(disk, leader)
				}
				before := disk.Bytes(0, small.Align)
				l := openLease(t, disk)
				_, err := l.Acquire(t.Context(), host(1, 1), ex, oracle{})
				wantKind(t, err, c.want)
				_, err = l.Acquire(t.Context(), host(1, 1), sh, oracle{})
				wantKind(t, err, c.want)
				_, err = l.ReadLeader(t.Context())
				wantKind(t, err, c.want)
				_, _, err = openLease(t, disk).Owners(t.Context())
				wantKind(t, err, c.want)
				_, err = openLease(t, disk).TakeRequest(t.Context())
				wantKind(t, err, c.want)
				_, err = openLease(t, disk).PutRequest(t.Context(), 5, 1, false)
				wantKind(t, err, c.want)
				if !bytes.Equal(before, disk.Bytes(0, small.Align)) || l.Unsettled() {
					t.Error("something was written")
				}
			})
		})
	}
}

// TestChangingSizes: a leader that states other sizes at every reading is being written by somebody who
// should not, and does not keep us reading for ever.
func TestChangingSizes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := memdisk.New(memdisk.Config{Size: 8 * ondisk.MiB})
		reads := 0
		dev := disk.Open("1")
		defer dev.Close()
		l := leaseOn(t, small, hooked{dev, func(string, int64, int) {
			g := ondisk.Geometries()[1:][reads%4]
			reads++
			leader := ondisk.NewPaxos(g, testSpace, testName, 0)
			putLeader(disk, leader)
		}})
		_, err := l.Acquire(t.Context(), host(1, 1), ex, oracle{})
		wantKind(t, err, leases.Corrupt)
		if reads == 0 || reads > maxViews {
			t.Errorf("%d reads", reads)
		}
	})
}

// TestDisksOfDifferentSizes: of three disks one states other sizes, and does not count; if each states others
// there is no lease.
func TestDisksOfDifferentSizes(t *testing.T) {
	for others := range 3 {
		synctest.Test(t, func(t *testing.T) {
			var devs []device.Device
			for d := range 3 {
				g := small
				if d >= 3-others {
					g = ondisk.Geometry{Sector: 4096, Align: ondisk.MiB << (d - 1)}
				}
				disk := memdisk.New(memdisk.Config{Size: int64(g.Align)})
				disk.Poke(0, ondisk.FormatResource(g, testSpace, testName, 8))
				dev := disk.Open("1")
				defer dev.Close()
				devs = append(devs, dev)
			}
			l := leaseOn(t, small, devs...)
			g, err := l.Acquire(t.Context(), host(1, 1), ex, oracle{})
			switch {
			case others < 2 && err != nil:
				t.Errorf("%d of 3 disks are different: %v", others, err)
			case others < 2:
				if err := l.Release(t.Context(), g, ""); err != nil {
					t.Error(err)
				}
			default:
				wantKind(t, err, leases.Corrupt)
			}
		})
	}
}

// TestOpenRefuses: numbers of disks and sizes that no lease can have.
func TestOpenRefuses(t *testing.T) {
	disk := formatted(t, small, 8)
	for n, want := range map[int]leases.Kind{0: leases.OutOfRange, paxos.MaxDisks + 1: leases.OutOfRange} {
		d := disk.Open("1")
		defer d.Close()
		_, err := New(Config{Space: testSpace, Name: testName, Geometry: small, Disks: make([]Disk, n)})
		wantKind(t, err, want)
	}
	illegal := []ondisk.Geometry{{}, {Sector: 512, Align: 2 * ondisk.MiB}, {Sector: 1024, Align: ondisk.MiB}}
	for _, g := range illegal {
		d := disk.Open("1")
		defer d.Close()
		_, err := New(Config{Space: testSpace, Name: testName, Geometry: g, Disks: []Disk{{Device: d}}})
		wantKind(t, err, leases.Invalid)
	}
}

// TestMemory: another Lease for the same place that is told what the first one knew asks for the leader and
// the blocks up to its own, no more; and what was not settled is not remembered.
func TestMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := formatted(t, small, 100)
		dev := faulty.Wrap(disk.Open("1"))
		defer dev.Close()
		l := leaseOn(t, small, dev)
		for range 3 {
			if err := l.Release(t.Context(), mustAcquire(t, l, host(2, 1), ex, oracle{}), ""); err != nil {
				t.Fatal(err)
			}
		}
		cfg := l.cfg
		cfg.Memory = l.Memory()
		again, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		dev.Forget()
		g := mustAcquire(t, again, host(2, 1), ex, oracle{})
		if op := dev.Ops()[0]; op.Kind != faulty.Read || op.Len != small.BallotLength(2) || g.Version != 4 {
			t.Errorf("first transfer %+v, version %d", op, g.Version)
		}
		dev.Add(faulty.On(faulty.Write, faulty.Fail(errBroken)).Times(1))
		if err := again.Release(t.Context(), g, ""); err == nil || !again.Unsettled() {
			t.Fatalf("released although the write failed: %v", err)
		}
		if m := again.Memory(); m != (Memory{}) {
			t.Errorf("remembers %+v of a lease that is not settled", m)
		}
		if err := again.Settle(t.Context()); err != nil || again.Memory() == (Memory{}) {
			t.Errorf("settled: %v, remembers %+v", err, again.Memory())
		}
	})
}
