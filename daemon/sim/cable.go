package sim

import (
	"sync"
	"syscall"

	"github.com/tenurelock/tenure/leases/device"
	"github.com/tenurelock/tenure/leases/device/memdisk"
)

// condition is what a host's way to the disk is like.
type condition uint8

const (
	working condition = iota
	failing           // every transfer ends with EIO
	hanging           // transfers wait until that changes
	cut               // the host is no more: nothing of it reaches the disk ever again
)

// cable is one host's way to the shared disk.
type cable struct {
	disk *memdisk.Disk

	mu      sync.Mutex
	is      condition
	changed chan struct{}
}

func newCable(d *memdisk.Disk) *cable { return &cable{disk: d, changed: make(chan struct{})} }

// set changes the condition; a cut is for ever.
func (c *cable) set(to condition) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.is == cut {
		return
	}
	c.is = to
	close(c.changed)
	c.changed = make(chan struct{})
}

// open returns a handle of the device.
func (c *cable) open() device.Device {
	g := device.Geometry{
		Path: DiskPath, SectorSize: sizes.Sector, Size: Spaces * (Leases + 1) * int64(sizes.Align), IsBlock: true,
	}
	return device.NewLanes(wire{c}, g, device.Options{})
}

// wire moves sectors over a cable.
type wire struct{ c *cable }

// ReadSectors implements device.Driver.
func (w wire) ReadSectors(off int64, p []byte) error {
	return w.c.pass(func() { copy(p, w.c.disk.Bytes(off, len(p))) })
}

// WriteSectors implements device.Driver.
func (w wire) WriteSectors(off int64, p []byte) error {
	return w.c.pass(func() { w.c.disk.Poke(off, p) })
}

// Close implements device.Driver.
func (wire) Close() error { return nil }

// pass lets a transfer through as the condition has it. What was let through is done before the condition can
// change.
func (c *cable) pass(transfer func()) error {
	for {
		c.mu.Lock()
		is, changed := c.is, c.changed
		if is == working {
			transfer()
		}
		c.mu.Unlock()
		switch is {
		case working:
			return nil
		case hanging:
			<-changed
		default:
			return syscall.EIO
		}
	}
}
