package sim

import (
	"sync"
	"syscall"
	"time"

	"github.com/tenurelock/tenure/leases/device"
	"github.com/tenurelock/tenure/leases/device/memdisk"
)

// condition is what a host's way to a disk is like, or a process.
type condition uint8

const (
	working   condition = iota
	failing             // every transfer ends with EIO
	unplugged           // every transfer ends with ENODEV
	hanging             // transfers wait until that changes
	cut                 // the host is no more: nothing of it reaches the disk ever again
)

// cable is one host's way to the shared disk; each lockspace's part of it may be in another condition.
type cable struct {
	disk *memdisk.Disk
	seen func(off int64, p []byte) // told of every write that has reached the disk

	mu      sync.Mutex
	is      [Spaces]condition
	late    time.Duration // from a write to its answer
	changed chan struct{}
}

func newCable(d *memdisk.Disk, seen func(off int64, p []byte)) *cable {
	return &cable{disk: d, seen: seen, changed: make(chan struct{})}
}

// set changes the condition of a lockspace's part; a cut is for ever.
func (c *cable) set(space int, to condition) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.is[space] == cut {
		return
	}
	c.is[space] = to
	close(c.changed)
	c.changed = make(chan struct{})
}

// delay makes the answers to writes come late.
func (c *cable) delay(late time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.late = late
}

// open returns a process's handle of the device.
func (c *cable) open(p *process) device.Device {
	g := device.Geometry{
		Path: DiskPath, SectorSize: sizes.Sector, Size: Spaces * (Leases + 1) * int64(sizes.Align), IsBlock: true,
	}
	return device.NewLanes(wire{c, p}, g, device.Options{})
}

// wire moves sectors over a cable for a process.
type wire struct {
	c *cable
	p *process
}

// ReadSectors implements device.Driver.
func (w wire) ReadSectors(off int64, p []byte) error {
	_, err := w.pass(off, func() { w.c.disk.Peek(off, p) })
	return err
}

// WriteSectors implements device.Driver.
func (w wire) WriteSectors(off int64, p []byte) error {
	late, err := w.pass(off, func() {
		w.c.disk.Poke(off, p)
		w.c.seen(off, p)
	})
	time.Sleep(late)
	return err
}

// Close implements device.Driver.
func (wire) Close() error { return nil }

// pass lets a transfer through as the condition has it, and returns how late the answer to a write is. What
// was let through is done before the condition can change. A transfer that the kernel has is done whatever
// happens to the process.
func (w wire) pass(off int64, transfer func()) (time.Duration, error) {
	if err := w.p.wait(); err != nil {
		return 0, err
	}
	c, space := w.c, off/areaOf(1, 0)
	for {
		c.mu.Lock()
		is, changed, late := c.is[space], c.changed, c.late
		if is == working {
			transfer()
		}
		c.mu.Unlock()
		switch is {
		case working:
			return late, nil
		case hanging:
			<-changed
		case unplugged:
			return 0, syscall.ENODEV
		default:
			return 0, syscall.EIO
		}
	}
}
