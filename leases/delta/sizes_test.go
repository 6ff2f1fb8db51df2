package delta

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device/faulty"
	"github.com/tenurelock/tenure/leases/device/memdisk"
	"github.com/tenurelock/tenure/leases/ondisk"
)

var ls = leases.NameOf("LS")

// The sizes come from the record of host id 1 if it can be believed, and otherwise from any other that can
// (spec ondisk 9.15).
func TestReadSizes(t *testing.T) {
	for _, g := range ondisk.Geometries() {
		for name, damage := range map[string]func(*memdisk.Disk){
			"whole":     func(*memdisk.Disk) {},
			"no magic":  func(d *memdisk.Disk) { d.Poke(0, []byte{0}) },
			"bad sizes": func(d *memdisk.Disk) { d.Poke(12, []byte{1, 2, 3}) },
			"zeros":     func(d *memdisk.Disk) { d.Poke(0, make([]byte, 512)) },
			"all but the last": func(d *memdisk.Disk) {
				d.Poke(0, make([]byte, g.DeltaOffset(g.MaxHosts())))
			},
		} {
			disk := formatted(g, 10)
			damage(disk)
			dev := disk.Open("a")
			if got, err := ReadSizes(t.Context(), dev, 0, ls, time.Minute); err != nil || got != g {
				t.Errorf("%v, %s: got %v, %v", g, name, got, err)
			}
			dev.Close()
		}
	}
}

func TestReadSizesErrors(t *testing.T) {
	first := func(change func(*ondisk.Leader)) func(*memdisk.Disk) {
		return func(d *memdisk.Disk) { put(d, 1, change) }
	}
	for _, c := range []struct {
		name   string
		damage func(*memdisk.Disk)
		want   leases.Kind
	}{
		{"not formatted", func(d *memdisk.Disk) { d.Poke(0, make([]byte, 1<<20)) }, leases.BadMagic},
		{"being formatted", func(d *memdisk.Disk) {
			area := ondisk.FormatLockspace(small, ls, 10)
			ondisk.HideLockspace(small, area)
			d.Poke(0, area)
		}, leases.BadMagic},
		{"a resource", func(d *memdisk.Disk) {
			d.Poke(0, ondisk.FormatResource(small, ls, ls, 0))
		}, leases.BadMagic},
		{"damaged, others of another lockspace", func(d *memdisk.Disk) {
			d.Poke(0, ondisk.FormatLockspace(small, leases.NameOf("LT"), 10))
			d.Poke(0, []byte{0})
		}, leases.BadMagic},
		{"newer major", first(func(l *ondisk.Leader) { l.Version += 1 << 16 }), leases.BadVersion},
		{"sector size", first(func(l *ondisk.Leader) { l.SectorSize = 1024 }), leases.BadSectorSize},
		{"pair", first(func(l *ondisk.Leader) { l.Flags = 0x20 }), leases.BadSizes},
		// Stock checks neither the name nor, with all of the others gone, the checksum.
		{"another lockspace", first(func(l *ondisk.Leader) { l.SpaceName = leases.NameOf("LT") }), leases.Other},
		{"nothing but a bad checksum", func(d *memdisk.Disk) {
			d.Poke(512, make([]byte, 1<<20-512))
			d.Poke(168, []byte{1})
		}, leases.Other},
	} {
		disk := formatted(small, 10)
		c.damage(disk)
		dev := disk.Open("a")
		g, err := ReadSizes(t.Context(), dev, 0, ls, time.Minute)
		wantKind(t, c.name, err, c.want)
		if err == nil && g != small {
			t.Errorf("%s: %v", c.name, g)
		}
		dev.Close()
	}
	tiny := memdisk.New(memdisk.Config{Size: 2048}).Open("tiny")
	defer tiny.Close()
	_, err := ReadSizes(t.Context(), tiny, 0, ls, time.Minute)
	wantKind(t, "end of the device", err, leases.ShortTransfer)
	broken := faulty.Wrap(formatted(small, 10).Open("a"), faulty.On(faulty.Read, faulty.Fail(nil)))
	defer broken.Close()
	_, err = ReadSizes(t.Context(), broken, 0, ls, time.Minute)
	wantKind(t, "device", err, leases.IO)
}

// What Format leaves is stock's image, written so that nobody can join half of it.
func TestFormat(t *testing.T) {
	for _, g := range ondisk.Geometries() {
		t.Run(fmt.Sprint(g), func(t *testing.T) {
			disk := memdisk.New(memdisk.Config{SectorSize: g.Sector, Size: 3 * int64(g.Align)})
			dev := faulty.Wrap(disk.Open("a"))
			defer dev.Close()
			off := int64(g.Align)
			if err := Format(t.Context(), dev, off, g, ls, 10); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(disk.Bytes(off, g.Align), ondisk.FormatLockspace(g, ls, 10)) {
				t.Error("another image")
			}
			want := []faulty.Op{
				{Kind: faulty.Write, Off: off, Len: g.Align}, {Kind: faulty.Write, Off: off, Len: g.Sector},
			}
			if got := dev.Ops(); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("transfers %v, want %v", got, want)
			}
			broken := faulty.Wrap(disk.Open("b"), faulty.On(faulty.Write, faulty.Fail(nil)).From(1))
			defer broken.Close()
			wantKind(t, "second write", Format(t.Context(), broken, off, g, ls, 10), leases.IO)
			if _, err := ReadSizes(t.Context(), dev, off, ls, time.Minute); leases.KindOf(err) != leases.BadMagic {
				t.Errorf("half formatted, and joined: %v", err)
			}
		})
	}
	bad := Format(t.Context(), nil, 0, ondisk.Geometry{Sector: 512, Align: 2 << 20}, ls, 10)
	wantKind(t, "no such sizes", bad, leases.Invalid)
}

func TestRead(t *testing.T) {
	disk := formatted(small, 10)
	want := put(disk, 1, held("them", 10))
	dev := disk.Open("a")
	defer dev.Close()
	for _, c := range []struct {
		name  string
		space leases.Name
		host  leases.HostID
		want  leases.Kind
	}{
		{"ours", ls, 1, 0},
		{"any", leases.Name{}, 1, 0},
		{"another", leases.NameOf("LT"), 1, leases.WrongSpace},
		{"host 0", ls, 0, leases.BadHostID},
		{"host 2001", ls, 2001, leases.BadHostID},
	} {
		got, err := Read(t.Context(), dev, 0, small, c.space, c.host, time.Minute)
		wantKind(t, c.name, err, c.want)
		if err == nil && got != want {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
	disk.Poke(168, []byte{9})
	_, err := Read(t.Context(), dev, 0, small, ls, 1, time.Minute)
	wantKind(t, "checksum", err, leases.BadChecksum)
	_, err = Read(t.Context(), dev, 2<<20, small, ls, 1, time.Minute)
	wantKind(t, "beyond the end", err, leases.ShortTransfer)
}
