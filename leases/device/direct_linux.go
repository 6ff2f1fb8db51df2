package device

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// File is a block device or a regular file, opened so that every transfer goes to the storage itself.
type File struct {
	*Lanes
	direct *direct
	id     identity
}

// Open opens a block device or a regular file for O_DIRECT and O_SYNC transfers. A write beyond the end of a
// regular file makes it longer. The error is an OpError around an errno, ErrNotStorage or ErrNoDirectIO.
// Two Files know nothing of each other's writes: who shares a device in one process takes an Opener.
func Open(path string, o Options) (*File, error) {
	fail := func(err error) (*File, error) { return nil, &OpError{Op: "open", Device: path, Err: err} }
	// Looked at before it is opened: opening some character devices, a watchdog for one, does something.
	if _, err := identify(path); err != nil {
		return fail(err)
	}
	access := unix.O_RDWR
	if o.ReadOnly {
		access = unix.O_RDONLY
	}
	fd, err := unix.Open(path, access|unix.O_DIRECT|unix.O_SYNC|unix.O_CLOEXEC, 0)
	for errors.Is(err, unix.EINTR) {
		fd, err = unix.Open(path, access|unix.O_DIRECT|unix.O_SYNC|unix.O_CLOEXEC, 0)
	}
	if errors.Is(err, unix.EINVAL) {
		err = fmt.Errorf("%w (%w)", ErrNoDirectIO, err)
	}
	if err != nil {
		return fail(err)
	}
	d := &direct{fd: fd}
	g, id, err := d.describe(path)
	if err != nil {
		unix.Close(fd)
		return fail(err)
	}
	d.block = g.IsBlock
	return &File{Lanes: NewLanes(d, g, o), direct: d, id: id}, nil
}

// direct is the driver of a File.
type direct struct {
	fd    int
	block bool
}

// ReadSectors implements Driver.
func (d *direct) ReadSectors(off int64, p []byte) error { return d.move(unix.Pread, off, p) }

// WriteSectors implements Driver.
func (d *direct) WriteSectors(off int64, p []byte) error {
	err := d.move(d.pwrite, off, p)
	if d.block && errors.Is(err, unix.ENOSPC) {
		// The kernel's word for the end of a block device. A thin volume says it anywhere.
		if size, e := d.size(); e == nil && off+int64(len(p)) > size {
			return ErrShort
		}
	}
	return err
}

// pwrite is unix.Pwrite with half of the flushes, where the kernel lets us.
func (*direct) pwrite(fd int, p []byte, off int64) (int, error) {
	n, err := writes.write(fd, p, off)
	if errors.Is(err, errNoAIO) {
		return unix.Pwrite(fd, p, off)
	}
	return n, err
}

// move repeats call until all of p is moved.
func (d *direct) move(call func(int, []byte, int64) (int, error), off int64, p []byte) error {
	for len(p) > 0 {
		n, err := call(d.fd, p, off)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EINVAL):
			return d.explain(off, len(p))
		case err != nil:
			return err
		case n == 0 || n < len(p) && n%fileSector != 0:
			return ErrShort // the end, perhaps in the middle of a sector
		}
		off += int64(n)
		p = p[n:]
	}
	return nil
}

// Close implements Driver.
func (d *direct) Close() error { return unix.Close(d.fd) }
