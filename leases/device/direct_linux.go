package device

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// fileSector is the sector size of a regular file (spec ondisk 1.1).
const fileSector = 512

// File is a block device or a regular file, opened so that every transfer goes to the storage itself.
type File struct {
	*Lanes
	id identity
}

// identity tells devices apart whatever path led to them.
type identity struct {
	block    bool
	dev, ino uint64 // dev alone for a block device
}

// Open opens a block device or a regular file for O_DIRECT and O_SYNC transfers. A write beyond the end of a
// regular file makes it longer. The error is an OpError around an errno, ErrNotStorage or ErrNoDirectIO.
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
	fd, err := retry(func() (int, error) {
		return unix.Open(path, access|unix.O_DIRECT|unix.O_SYNC|unix.O_CLOEXEC, 0)
	})
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
	return &File{Lanes: NewLanes(d, g, o), id: id}, nil
}

// identify looks at what path names.
func identify(path string) (identity, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return identity{}, err
	}
	return identityOf(&st)
}

func identityOf(st *unix.Stat_t) (identity, error) {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFBLK:
		return identity{block: true, dev: uint64(st.Rdev)}, nil
	case unix.S_IFREG:
		return identity{dev: uint64(st.Dev), ino: st.Ino}, nil
	}
	return identity{}, ErrNotStorage
}

// retry repeats a call that a signal interrupted.
func retry[T any](call func() (T, error)) (T, error) {
	for {
		v, err := call()
		if !errors.Is(err, unix.EINTR) {
			return v, err
		}
	}
}

// direct is the driver of a File.
type direct struct {
	fd    int
	block bool
}

func (d *direct) describe(path string) (Geometry, identity, error) {
	var st unix.Stat_t
	if err := unix.Fstat(d.fd, &st); err != nil {
		return Geometry{}, identity{}, err
	}
	id, err := identityOf(&st)
	if err != nil {
		return Geometry{}, identity{}, err
	}
	if !id.block {
		return Geometry{Path: path, SectorSize: fileSector, Size: st.Size}, id, nil
	}
	sector, err := unix.IoctlGetUint32(d.fd, unix.BLKSSZGET)
	if err != nil {
		return Geometry{}, identity{}, fmt.Errorf("BLKSSZGET: %w", err)
	}
	size, err := d.size()
	if err != nil {
		return Geometry{}, identity{}, fmt.Errorf("BLKGETSIZE64: %w", err)
	}
	return Geometry{Path: path, SectorSize: int(sector), Size: size, IsBlock: true}, id, nil
}

// size asks a block device for its size in bytes.
func (d *direct) size() (int64, error) {
	var size uint64
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(d.fd), unix.BLKGETSIZE64, uintptr(unsafe.Pointer(&size)))
	if errno != 0 {
		return 0, errno
	}
	return int64(size), nil
}

// ReadSectors implements Driver.
func (d *direct) ReadSectors(off int64, p []byte) error { return move(unix.Pread, d.fd, off, p) }

// WriteSectors implements Driver.
func (d *direct) WriteSectors(off int64, p []byte) error {
	err := move(unix.Pwrite, d.fd, off, p)
	if d.block && errors.Is(err, unix.ENOSPC) {
		// The kernel's word for the end of a block device. A thin volume says it anywhere.
		if size, e := d.size(); e == nil && off+int64(len(p)) > size {
			return ErrShort
		}
	}
	return err
}

// move repeats call until all of p is moved.
func move(call func(int, []byte, int64) (int, error), fd int, off int64, p []byte) error {
	for len(p) > 0 {
		n, err := call(fd, p, off)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
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
