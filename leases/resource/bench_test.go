package resource_test

import (
	"context"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device"
	"github.com/tenurelock/tenure/leases/monotime"
	"github.com/tenurelock/tenure/leases/ondisk"
	"github.com/tenurelock/tenure/leases/resource"
	"github.com/tenurelock/tenure/leases/timeouts"
	"github.com/tenurelock/tenure/tools/need"
)

type allAlive struct{}

func (allAlive) Probe(context.Context, leases.Owner) (leases.Verdict, error) {
	return leases.Alive, nil
}

// BenchmarkAcquireRelease sets a lease's acquire and release beside the same transfers made bare, on a loop
// device. Compare the two of one size.
func BenchmarkAcquireRelease(b *testing.B) {
	g := ondisk.Geometry{Sector: 512, Align: ondisk.MiB}
	path := need.Loop(b, 512, ondisk.MiB)
	for _, hosts := range []uint64{16, 2000} {
		dev, err := device.Open(path, device.Options{})
		if err != nil {
			b.Fatal(err)
		}
		disk := resource.Disk{Device: dev}
		space, name := leases.NameOf("LS"), leases.NameOf("R")
		if err := resource.Format(b.Context(), disk, g, space, name, hosts); err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("lease/hosts=%d", hosts), func(b *testing.B) { benchLease(b, g, disk) })
		b.Run(fmt.Sprintf("bare/hosts=%d", hosts), func(b *testing.B) { benchBare(b, path, g.BallotLength(hosts)) })
		dev.Close()
	}
}

func benchLease(b *testing.B, g ondisk.Geometry, disk resource.Disk) {
	l, err := resource.New(resource.Config{
		Space: leases.NameOf("LS"), Name: leases.NameOf("R"), Disks: []resource.Disk{disk}, Geometry: g,
		Times: timeouts.Set{IO: 10, Fire: 60}, Clock: monotime.System(),
	})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		grant, err := l.Acquire(b.Context(), leases.Owner{Host: 1, Generation: 1},
			resource.Request{Mode: leases.Exclusive}, allAlive{})
		if err != nil {
			b.Fatal(err)
		}
		if err := l.Release(b.Context(), grant, ""); err != nil {
			b.Fatal(err)
		}
	}
}

func benchBare(b *testing.B, path string, ballot int) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_DIRECT|unix.O_SYNC|unix.O_CLOEXEC, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Close(fd)
	mem, err := unix.Mmap(-1, 0, ballot, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		b.Fatal(err)
	}
	rd := func(off int64, n int) {
		if got, err := unix.Pread(fd, mem[:n], off); err != nil || got != n {
			b.Fatal(got, err)
		}
	}
	wr := func(off int64) {
		if got, err := unix.Pwrite(fd, mem[:512], off); err != nil || got != 512 {
			b.Fatal(got, err)
		}
	}
	const block = 2 * 512
	for b.Loop() {
		rd(0, ballot)
		wr(block)
		rd(0, ballot)
		wr(block)
		rd(0, ballot)
		wr(0)
		wr(block)
		rd(0, 512)
		wr(0)
	}
}
