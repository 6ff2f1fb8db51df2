package resource

import (
	"testing"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device"
	"github.com/tenurelock/tenure/leases/device/memdisk"
	"github.com/tenurelock/tenure/leases/monotime"
	"github.com/tenurelock/tenure/leases/ondisk"
	"github.com/tenurelock/tenure/leases/timeouts"
)

var (
	testSpace = leases.NameOf("LS1")
	testName  = leases.NameOf("RES1")
	small     = ondisk.Geometry{Sector: 512, Align: ondisk.MiB}
)

var ex, sh = Request{Mode: leases.Exclusive}, Request{Mode: leases.Shared}

// formatted returns a disk in memory with one free resource at its start.
func formatted(t *testing.T, g ondisk.Geometry, numHosts uint64) *memdisk.Disk {
	t.Helper()
	disk := memdisk.New(memdisk.Config{SectorSize: g.Sector, Size: int64(g.Align)})
	disk.Poke(0, ondisk.FormatResource(g, testSpace, testName, numHosts))
	return disk
}

// leaseOn returns a host's lease over devices that it opened.
func leaseOn(t *testing.T, g ondisk.Geometry, devs ...device.Device) *Lease {
	t.Helper()
	cfg := Config{
		Space: testSpace, Name: testName, Geometry: g,
		Times: timeouts.Set{IO: 2, Fire: 60}, Clock: monotime.At(1000e9, nil),
	}
	for _, d := range devs {
		cfg.Disks = append(cfg.Disks, Disk{Device: d})
	}
	l, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

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

func host(id leases.HostID, gen leases.Generation) leases.Owner {
	return leases.Owner{Host: id, Generation: gen}
}

func wantKind(t *testing.T, err error, want leases.Kind) {
	t.Helper()
	if err == nil || leases.KindOf(err) != want {
		t.Errorf("error %v of kind %d, want kind %d", err, leases.KindOf(err), want)
	}
}

// The following look at, and change, a disk of small geometry behind the hosts' backs.

func blockAt(t *testing.T, disk *memdisk.Disk, id uint64) ondisk.HostBlock {
	t.Helper()
	hb, err := ondisk.DecodeHostBlock(disk.Bytes(small.BlockOffset(id), small.Sector))
	if err != nil {
		t.Fatal(err)
	}
	return hb
}

func leaderAt(t *testing.T, disk *memdisk.Disk) ondisk.Leader {
	t.Helper()
	l, err := ondisk.DecodeLeader(disk.Bytes(0, small.Sector))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// putBlock and putLeader put a record on the disk with a good checksum.
func putBlock(disk *memdisk.Disk, id uint64, hb ondisk.HostBlock) {
	sector := make([]byte, small.Sector)
	hb.Encode(sector)
	disk.Poke(small.BlockOffset(id), sector)
}

func putLeader(disk *memdisk.Disk, l ondisk.Leader) {
	sector := make([]byte, small.Sector)
	l.Encode(sector)
	disk.Poke(0, sector)
}
