// Package memdisk is a shared disk in memory that is stricter than any real one.
//
// A single sector is read and written as a whole. Everything larger may tear: its sectors are moved one by
// one, forwards or backwards, and other hosts' transfers may come between any two of them. A transfer whose
// memory address, offset or length is not aligned is refused, which many real disks would let pass in a
// test and refuse in the field.
package memdisk

import (
	"math/rand/v2"
	"reflect"
	"runtime"
	"sync"

	"github.com/tenurelock/tenure/leases/device"
)

// Config describes a disk.
type Config struct {
	SectorSize int   // bytes; 0 means 512
	Size       int64 // bytes, a multiple of the sector size; memory is used only where something was written
	// Seed chooses where larger transfers tear. The same seed gives the same choices in the same order of
	// transfers; the order of goroutines is the scheduler's.
	Seed uint64
	// Between, if not nil, is called without locks between any two sectors of a larger transfer, in place
	// of a random yield: a test may do there what another host would.
	Between func(op string, off int64)
}

// extent is the unit in which memory is allocated.
const extent = 1 << 20

// Disk is storage that several hosts share.
type Disk struct {
	sector  int
	size    int64
	between func(op string, off int64)

	mu      sync.Mutex
	extents map[int64][]byte // by number; missing means zeros
	dice    *rand.Rand
}

// New returns a disk full of zeros. It panics if the sizes make no sense.
func New(c Config) *Disk {
	if c.SectorSize == 0 {
		c.SectorSize = 512
	}
	if c.SectorSize < 512 || extent%c.SectorSize != 0 || c.Size <= 0 || c.Size%int64(c.SectorSize) != 0 {
		panic("memdisk: sizes of a disk that cannot be")
	}
	return &Disk{
		sector: c.SectorSize, size: c.Size, between: c.Between,
		extents: map[int64][]byte{}, dice: rand.New(rand.NewPCG(c.Seed, 0)),
	}
}

// Open returns a host's own handle: hosts share the sectors and nothing else. host is the device's path in
// errors. Closing the handle leaves the disk as it is.
func (d *Disk) Open(host string) device.Device {
	g := device.Geometry{Path: host, SectorSize: d.sector, Size: d.size, IsBlock: true}
	return device.NewLanes(driver{d}, g, device.Options{})
}

// Bytes returns a copy of what is on the disk now, all of it of one moment.
func (d *Disk) Bytes(off int64, n int) []byte {
	p := make([]byte, n)
	d.Peek(off, p)
	return p
}

// Peek copies what is on the disk now into p, all of it of one moment.
func (d *Disk) Peek(off int64, p []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.copy(off, p, false)
}

// Poke puts p on the disk in one moment, at any offset.
func (d *Disk) Poke(off int64, p []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.copy(off, p, true)
}

// copy moves p to or from the extents. It panics beyond the end. mu is held.
func (d *Disk) copy(off int64, p []byte, write bool) {
	if off < 0 || off > d.size-int64(len(p)) {
		panic("memdisk: beyond the end")
	}
	for len(p) > 0 {
		e := d.extents[off/extent]
		at := int(off % extent)
		n := min(len(p), extent-at)
		switch {
		case write && e == nil:
			e = make([]byte, extent)
			d.extents[off/extent] = e
			copy(e[at:], p[:n])
		case write:
			copy(e[at:], p[:n])
		case e == nil:
			clear(p[:n])
		default:
			copy(p[:n], e[at:])
		}
		off += int64(n)
		p = p[n:]
	}
}

// driver moves the sectors of one handle.
type driver struct{ disk *Disk }

// ReadSectors implements device.Driver.
func (d driver) ReadSectors(off int64, p []byte) error { return d.disk.move("read", off, p) }

// WriteSectors implements device.Driver.
func (d driver) WriteSectors(off int64, p []byte) error { return d.disk.move("write", off, p) }

// Close implements device.Driver.
func (driver) Close() error { return nil }

// move transfers p sector by sector. What lies beyond the end is left out.
func (d *Disk) move(op string, off int64, p []byte) error {
	ss := d.sector
	if off < 0 || off%int64(ss) != 0 || len(p) == 0 || len(p)%ss != 0 ||
		reflect.ValueOf(p).Pointer()%uintptr(ss) != 0 {
		return device.ErrMisaligned
	}
	n := len(p) / ss
	fits := int(max(0, min(int64(n), (d.size-off)/int64(ss))))
	backwards := d.toss(2)
	for i := range fits {
		at := i * ss
		if backwards {
			at = (fits - 1 - i) * ss
		}
		if i > 0 {
			d.pause(op, off+int64(at))
		}
		d.mu.Lock()
		d.copy(off+int64(at), p[at:at+ss], op == "write")
		d.mu.Unlock()
	}
	if fits < n {
		return device.ErrShort
	}
	return nil
}

// pause lets others come between two sectors.
func (d *Disk) pause(op string, off int64) {
	switch {
	case d.between != nil:
		d.between(op, off)
	case d.toss(yieldOneIn):
		runtime.Gosched()
	}
}

// yieldOneIn is how many sectors of a larger transfer are moved, on average, before others get the processor.
const yieldOneIn = 16

// toss is true once in n times.
func (d *Disk) toss(n int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dice.IntN(n) == 0
}
