package delta

import (
	"bytes"
	"context"
	"fmt"
	"syscall"
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

var small = ondisk.Geometry{Sector: 512, Align: ondisk.MiB}

// formatted returns a disk with a lockspace "LS" at offset 0.
func formatted(g ondisk.Geometry, io uint16) *memdisk.Disk {
	disk := memdisk.New(memdisk.Config{SectorSize: g.Sector, Size: 2 * int64(g.Align)})
	disk.Poke(0, ondisk.FormatLockspace(g, leases.NameOf("LS"), io))
	return disk
}

// configOf is that of a host with io_timeout 2.
func configOf(dev device.Device, host leases.HostID, name string) Config {
	return Config{
		Device: dev, Geometry: small, Space: leases.NameOf("LS"), Host: host, HostName: name,
		Times: timeouts.Set{IO: 2, Fire: 60}, Clock: monotime.At(monotime.Instant(1000*time.Second), nil),
		ReadExtend: 2 * time.Second,
	}
}

func leaseOn(t *testing.T, dev device.Device, host leases.HostID, name string) *Lease {
	t.Helper()
	l, err := New(configOf(dev, host, name))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func acquired(t *testing.T, dev device.Device, host leases.HostID, name string) *Lease {
	t.Helper()
	l := leaseOn(t, dev, host, name)
	if _, err := l.Acquire(t.Context()); err != nil {
		t.Fatal(err)
	}
	return l
}

func onDisk(t *testing.T, disk *memdisk.Disk, g ondisk.Geometry, host uint64) ondisk.Leader {
	t.Helper()
	l, err := ondisk.DecodeLeader(disk.Bytes(g.DeltaOffset(host), g.Sector))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// blind is an observer that does not look.
func blind(leases.HostID, []byte) {}

func wantKind(t *testing.T, what string, err error, want leases.Kind) {
	t.Helper()
	if got := leases.KindOf(err); got != want || (err == nil) != (want == leases.Other) {
		t.Errorf("%s: %v of kind %d, want %d", what, err, got, want)
	}
}

// A renewal changes the timestamp, the event and the bitmap, keeps what else is in the record, and is not
// disturbed by its own traces.
func TestRenewWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := formatted(small, 2)
		dev := faulty.Wrap(disk.Open("a"))
		defer dev.Close()
		l := acquired(t, dev, 3, "a")
		before := onDisk(t, disk, small, 3)
		time.Sleep(3 * time.Second)
		dev.Forget()
		extra := Extra{Event: [3]uint64{7, 8, 9}, Bitmap: []leases.HostID{1, 9}}
		r, err := l.Renew(t.Context(), extra, blind)
		if err != nil {
			t.Fatal(err)
		}
		want := before
		want.Timestamp, want.WriteID, want.WriteGeneration, want.WriteTimestamp = 1007, 7, 8, 9
		want.Checksum = want.Sum()
		if got := onDisk(t, disk, small, 3); got != want {
			t.Errorf("got %+v\nwant %+v", got, want)
		}
		if got := ondisk.BitmapHosts(disk.Bytes(1024, 512)); fmt.Sprint(got) != "[1 9]" {
			t.Errorf("bits of %v", got)
		}
		if r.At.Seconds() != 1007 {
			t.Errorf("renewed at %v", r.At)
		}
		ops := []faulty.Op{{Kind: faulty.Read, Off: 0, Len: 11 * 512}, {Kind: faulty.Write, Off: 1024, Len: 512}}
		if got := dev.Ops(); fmt.Sprint(got) != fmt.Sprint(ops) {
			t.Errorf("transfers %v, want %v", got, ops)
		}
		if _, err := l.Renew(t.Context(), Extra{}, blind); err != nil {
			t.Error(err)
		}
		if got := ondisk.BitmapHosts(disk.Bytes(1024, 512)); len(got) != 0 {
			t.Errorf("bits stay: %v", got)
		}
	})
}

// The first second after boot must not look like a free lease.
func TestNeverWritesTimestampZero(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := formatted(small, 2)
		dev := disk.Open("a")
		defer dev.Close()
		l := leaseOn(t, dev, 1, "a")
		l.cfg.Clock = monotime.At(0, nil)
		if _, err := l.Acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := onDisk(t, disk, small, 1).Timestamp; got != 1 {
			t.Errorf("timestamp %d", got)
		}
	})
}

// Fails, refuses, tears and delays each transfer of a renewal in turn. A fault that leaves the record in
// doubt must be an error with a name, must not make the next renewal mistake its own traces for another
// writer's, and must keep the id from being freed.
func TestEveryFaultOfARenewal(t *testing.T) {
	cut := syscall.EIO
	for _, c := range []struct {
		name   string
		op     faulty.Kind
		action faulty.Action
		want   leases.Kind
		sure   bool // the sector is known although the renewal failed
	}{
		{"read fails", faulty.Read, faulty.Fail(nil), leases.IO, true},
		{"read beyond the end", faulty.Read, faulty.Fail(device.ErrShort), leases.ShortTransfer, true},
		{"read comes late", faulty.Read, faulty.Late(3 * time.Second), leases.Timeout, true},
		{"read hangs", faulty.Read, faulty.Late(20 * time.Second), leases.Timeout, true},
		{"write fails", faulty.Write, faulty.Fail(nil), leases.IO, false},
		{"write fails but is there", faulty.Write, faulty.FailAfterWriting(nil), leases.IO, false},
		{"write torn", faulty.Write, faulty.Tear(0, cut), leases.IO, false},
		{"write comes late", faulty.Write, faulty.Late(80 * time.Second), leases.Timeout, false},
		{"answers the write late", faulty.Write, faulty.LateAnswer(80 * time.Second), leases.Timeout, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk := formatted(small, 2)
				dev := faulty.Wrap(disk.Open("a"))
				defer dev.Close()
				l := acquired(t, dev, 1, "a")
				time.Sleep(4 * time.Second)
				rule := faulty.On(c.op, c.action).Times(1)
				dev.Add(rule)
				_, err := l.Renew(t.Context(), Extra{}, blind)
				wantKind(t, "renewal", err, c.want)
				if rule.Fired() != 1 || l.sure != c.sure {
					t.Errorf("fired %d, sure %v", rule.Fired(), l.sure)
				}
				writes := dev.Writes()
				if err := l.Release(t.Context()); err != nil || dev.Writes() != writes {
					t.Errorf("released after a failed renewal: %v, %d writes", err, dev.Writes()-writes)
				}
				time.Sleep(time.Second)
				if _, err := l.Renew(t.Context(), Extra{}, blind); err != nil {
					t.Errorf("the next renewal: %v", err)
				}
				time.Sleep(4 * time.Second)
				if _, err := l.Renew(t.Context(), Extra{}, blind); err != nil {
					t.Errorf("the one after: %v", err)
				}
				if got := onDisk(t, disk, small, 1); got != l.last {
					t.Errorf("on disk %+v, known %+v", got, l.last)
				}
				time.Sleep(time.Minute)
			})
		})
	}
}

// After a failed read nothing can have changed our record but another writer; after a failed write the
// record may be the old or the new one, but its owner is still ours or not.
func TestForeignWritesBetweenFaults(t *testing.T) {
	for _, c := range []struct {
		name   string
		op     faulty.Kind
		action faulty.Action
		change func(*ondisk.Leader)
		want   leases.Kind
	}{
		{
			"timestamp, all well", faulty.Any,
			faulty.Action{},
			func(l *ondisk.Leader) { l.Timestamp++ },
			leases.RenewDiffer,
		},
		{
			"event, outside the checksum", faulty.Any,
			faulty.Action{},
			func(l *ondisk.Leader) { l.WriteID = 5 },
			leases.RenewDiffer,
		},
		{
			"timestamp, after a failed read", faulty.Read, faulty.Fail(nil), func(l *ondisk.Leader) { l.Timestamp++ },
			leases.RenewDiffer,
		},
		{
			"timestamp, after a failed write", faulty.Write, faulty.Fail(nil),
			func(l *ondisk.Leader) { l.Timestamp++ },
			leases.Other,
		},
		{
			"generation, after a failed write", faulty.Write, faulty.Fail(nil),
			func(l *ondisk.Leader) { l.OwnerGeneration++ },
			leases.RenewOwner,
		},
		{
			"name's tail, after a late write", faulty.Write, faulty.Late(77 * time.Second),
			func(l *ondisk.Leader) { l.ResourceName[20] = 'x' },
			leases.RenewOwner,
		},
		{
			"owner, after a failed read", faulty.Read, faulty.Fail(nil), func(l *ondisk.Leader) { l.OwnerID = 9 },
			leases.RenewOwner,
		},
		{"flags", faulty.Any, faulty.Action{}, func(l *ondisk.Leader) { l.Flags |= 4 << 8 }, leases.RenewDiffer},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk := formatted(small, 2)
				dev := faulty.Wrap(disk.Open("a"))
				defer dev.Close()
				l := acquired(t, dev, 1, "a")
				if c.op != faulty.Any {
					dev.Add(faulty.On(c.op, c.action).Times(1))
					if _, err := l.Renew(t.Context(), Extra{}, blind); err == nil {
						t.Fatal("no fault")
					}
				}
				time.Sleep(5 * time.Second)
				record := onDisk(t, disk, small, 1)
				c.change(&record)
				p := make([]byte, 512)
				record.Encode(p)
				disk.Poke(0, p)
				_, err := l.Renew(t.Context(), Extra{}, blind)
				wantKind(t, "renewal", err, c.want)
				if err != nil && !bytes.Equal(disk.Bytes(0, 512), p) {
					t.Error("the other's record was overwritten")
				}
			})
		})
	}
}

// A write that is still flying is not overtaken: the next renewal's waits for it, and counts from before.
func TestRenewalWaitsForTheFlyingWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := formatted(small, 2)
		dev := faulty.Wrap(disk.Open("a"))
		defer dev.Close()
		l := acquired(t, dev, 1, "a")
		gate := faulty.NewGate()
		dev.Add(faulty.On(faulty.Write, faulty.Stall(gate)).Times(1))
		_, err := l.Renew(t.Context(), Extra{}, blind)
		wantKind(t, "hanging write", err, leases.Timeout)
		time.AfterFunc(10*time.Second, gate.Release)
		began := l.cfg.Clock.Now()
		r, err := l.Renew(t.Context(), Extra{}, blind)
		if err != nil {
			t.Fatal(err)
		}
		if r.At != began || l.cfg.Clock.Now().Sub(began) != 10*time.Second {
			t.Errorf("counts from %v, ended after %v", r.At.Sub(began), l.cfg.Clock.Now().Sub(began))
		}
		if got := onDisk(t, disk, small, 1).Timestamp; got != uint64(began.Seconds()) {
			t.Errorf("timestamp %d, want %d: the late write came last", got, began.Seconds())
		}
	})
}

func TestRenewalWriteDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := formatted(small, 2)
		dev := faulty.Wrap(disk.Open("a"))
		defer dev.Close()
		l := acquired(t, dev, 1, "a")
		gate := faulty.NewGate()
		defer gate.Release()
		dev.Add(faulty.On(faulty.Write, faulty.Stall(gate)))
		began := time.Now()
		_, err := l.Renew(t.Context(), Extra{}, blind)
		wantKind(t, "hanging write", err, leases.Timeout)
		if got := time.Since(began); got != 76*time.Second {
			t.Errorf("given up after %v, want 8·2+60 s", got)
		}
	})
}

// The answer to a late read is used by the next renewal, for as long as ReadExtend; then a new one is made.
func TestLateReads(t *testing.T) {
	for _, c := range []struct {
		late  time.Duration
		reads int
		took  time.Duration // of the second renewal
	}{
		{2500 * time.Millisecond, 1, 0},
		{4 * time.Second, 1, 1500 * time.Millisecond},
		{4400 * time.Millisecond, 1, 1900 * time.Millisecond},
		{5 * time.Second, 2, 2 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			disk := formatted(small, 2)
			dev := faulty.Wrap(disk.Open("a"))
			defer dev.Close()
			l := acquired(t, dev, 1, "a")
			dev.Forget()
			dev.Add(faulty.On(faulty.Read, faulty.Late(c.late)).Times(1))
			_, err := l.Renew(t.Context(), Extra{}, blind)
			wantKind(t, "late read", err, leases.Timeout)
			time.Sleep(500 * time.Millisecond)
			began := time.Now()
			if _, err := l.Renew(t.Context(), Extra{}, blind); err != nil {
				t.Error(err)
			}
			if took := time.Since(began); dev.Reads() != c.reads || took != c.took {
				t.Errorf("late by %v: %d reads, %v", c.late, dev.Reads(), took)
			}
			time.Sleep(time.Minute)
		})
	}
}

func TestRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := formatted(small, 2)
		dev := faulty.Wrap(disk.Open("a"))
		defer dev.Close()
		l := acquired(t, dev, 1, "a")
		extra := Extra{Event: [3]uint64{1, 2, 3}, Bitmap: []leases.HostID{4}}
		if _, err := l.Renew(t.Context(), extra, blind); err != nil {
			t.Fatal(err)
		}
		want := onDisk(t, disk, small, 1)
		want.Timestamp = 0
		want.Checksum = want.Sum()
		dev.Forget()
		if err := l.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := onDisk(t, disk, small, 1); got != want {
			t.Errorf("got %+v\nwant %+v", got, want)
		}
		if got := ondisk.BitmapHosts(disk.Bytes(0, 512)); len(got) != 0 || dev.Reads() != 0 || dev.Writes() != 1 {
			t.Errorf("bits %v, %d reads, %d writes", got, dev.Reads(), dev.Writes())
		}
		if err := l.Release(t.Context()); err != nil || dev.Writes() != 1 {
			t.Errorf("again: %v, %d writes", err, dev.Writes())
		}
		other := acquired(t, dev, 1, "b") // at once, for it is free
		dev.Add(faulty.On(faulty.Write, faulty.Late(3*time.Second)))
		wantKind(t, "release that hangs", other.Release(t.Context()), leases.Timeout)
	})
}

// Host ids far from ours are found within three renewals, each renewal reads what is known, and no read is
// larger than a piece.
func TestWatchFindsNewHosts(t *testing.T) {
	for _, g := range ondisk.Geometries() {
		t.Run(fmt.Sprintf("%d-%d", g.Sector, g.Align>>20), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk := formatted(g, 2)
				dev := faulty.Wrap(disk.Open("a"))
				defer dev.Close()
				cfg := configOf(dev, 2, "a")
				cfg.Geometry = g
				l, err := New(cfg)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := l.Acquire(t.Context()); err != nil {
					t.Fatal(err)
				}
				seen := map[leases.HostID]int{}
				look := func(id leases.HostID, sector []byte) {
					if r, err := ondisk.DecodeLeader(sector); err == nil && r.OwnerID != 0 {
						seen[id]++
						if r.OwnerID != uint64(id) {
							t.Errorf("sector of host %d shown as %d", r.OwnerID, id)
						}
					}
				}
				var all bool
				round := func() {
					t.Helper()
					_, err := l.Renew(t.Context(), Extra{}, look)
					if all = false; err == nil {
						all, err = l.Watch(t.Context(), look)
					}
					if err != nil {
						t.Fatal(err)
					}
				}
				if round(); !all {
					t.Error("the first round was not of all")
				}
				for _, id := range []uint64{1, 30, g.MaxHosts() - 1, g.MaxHosts()} {
					r, p := ondisk.NewDelta(g, leases.NameOf("LS"), 2), make([]byte, g.Sector)
					r.OwnerID, r.OwnerGeneration, r.Timestamp = id, 1, 50
					r.Encode(p)
					disk.Poke(g.DeltaOffset(id), p)
				}
				clear(seen)
				dev.Forget()
				round()
				if len(seen) != 2 || seen[1] != 1 || seen[2] != 1 || dev.Reads() != 1 || all {
					t.Errorf("second round saw %v with %d reads", seen, dev.Reads())
				}
				for range 2 {
					round()
				}
				if len(seen) != 5 || !all {
					t.Errorf("not found in three rounds: %v", seen)
				}
				for _, op := range dev.Ops() {
					if op.Len > piece {
						t.Errorf("a transfer of %d bytes", op.Len)
					}
				}
				for range 4 {
					clear(seen)
					round()
					if len(seen) != 5 || seen[2] != 1 || seen[30] != 1 || seen[leases.HostID(g.MaxHosts())] != 1 {
						t.Errorf("a later round saw %v, want each once", seen)
					}
				}
			})
		})
	}
}

// A look at the others that fails is no failure of the renewal, and is made up for.
func TestWatchThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := formatted(small, 2)
		dev := faulty.Wrap(disk.Open("a"))
		defer dev.Close()
		l := acquired(t, dev, 1, "a")
		if _, err := l.Renew(t.Context(), Extra{}, blind); err != nil {
			t.Fatal(err)
		}
		dev.Add(faulty.On(faulty.Read, faulty.Late(time.Hour)).From(1).Times(1))
		began := time.Now()
		all, err := l.Watch(t.Context(), blind)
		if wantKind(t, "watch", err, leases.Timeout); all {
			t.Error("all seen")
		}
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("took %v, want one io_timeout", took)
		}
		dev.Forget()
		if all, err := l.Watch(t.Context(), blind); err != nil || !all || dev.Reads() != 4 {
			t.Errorf("%v, %d reads, want the whole area", err, dev.Reads())
		}
		if err := l.Release(t.Context()); err != nil || onDisk(t, disk, small, 1).Timestamp != 0 {
			t.Errorf("released: %v", err)
		}
	})
}

// A write that was never started leaves the record known, and so does a renewal that succeeds after one whose
// write failed: then any other byte is another writer's.
func TestKnownRecordIsComparedWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := formatted(small, 2)
		dev := faulty.Wrap(disk.Open("a"))
		defer dev.Close()
		l := acquired(t, dev, 1, "a")
		gate := faulty.NewGate()
		dev.Add(faulty.On(faulty.Write, faulty.Stall(gate)).Times(1))
		flying, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := dev.Write(flying, 0, device.NewBuffer(512)); err == nil {
			t.Fatal("the write did not stall")
		}
		_, err := l.Renew(t.Context(), Extra{}, blind)
		wantKind(t, "behind a write that hangs", err, leases.Timeout)
		gate.Drop(context.Canceled)
		before := put(disk, 1, func(l *ondisk.Leader) { l.Timestamp++ })
		_, err = l.Renew(t.Context(), Extra{}, blind)
		wantKind(t, "changed since", err, leases.RenewDiffer)
		put(disk, 1, func(l *ondisk.Leader) { l.Timestamp = before.Timestamp - 1 })
		dev.Add(faulty.On(faulty.Write, faulty.Fail(nil)).Times(1))
		_, err = l.Renew(t.Context(), Extra{}, blind)
		wantKind(t, "failing write", err, leases.IO)
		if _, err := l.Renew(t.Context(), Extra{}, blind); err != nil {
			t.Fatal(err)
		}
		put(disk, 1, func(l *ondisk.Leader) { l.Timestamp++ })
		_, err = l.Renew(t.Context(), Extra{}, blind)
		wantKind(t, "changed after a good renewal", err, leases.RenewDiffer)
	})
}

// A host id that was in use is shown even when its sector is empty: the table must see that it changed.
func TestWipedSectorIsShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := formatted(small, 2)
		dev := disk.Open("a")
		defer dev.Close()
		l := acquired(t, dev, 1, "a")
		put(disk, 2, func(l *ondisk.Leader) { l.OwnerID, l.Timestamp = 2, 50 })
		put(disk, 20, func(l *ondisk.Leader) { l.OwnerID, l.Timestamp = 20, 50 })
		shown := map[leases.HostID]int{}
		for range 2 {
			look := func(id leases.HostID, _ []byte) { shown[id]++ }
			if _, err := l.Renew(t.Context(), Extra{}, look); err != nil {
				t.Fatal(err)
			}
			if _, err := l.Watch(t.Context(), look); err != nil {
				t.Fatal(err)
			}
			disk.Poke(512, make([]byte, 512))
		}
		if shown[2] != 2 || shown[20] != 2 || shown[21] != 0 {
			t.Errorf("shown %v", shown)
		}
	})
}
