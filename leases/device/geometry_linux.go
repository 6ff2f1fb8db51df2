package device

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// fileSector is the sector size of a regular file (spec ondisk 1.1).
const fileSector = 512

// identity tells devices apart whatever path led to them.
type identity struct {
	block    bool
	dev, ino uint64 // dev alone for a block device
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
		return identity{block: true, dev: st.Rdev}, nil
	case unix.S_IFREG:
		return identity{dev: st.Dev, ino: st.Ino}, nil
	case unix.S_IFDIR:
		return identity{}, fmt.Errorf("%w (%w)", ErrNotStorage, unix.EISDIR)
	}
	return identity{}, ErrNotStorage
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
	_, _, errno := unix.Syscall(unix.SYS_IOCTL,
		uintptr(d.fd), unix.BLKGETSIZE64, uintptr(unsafe.Pointer(&size)))
	if errno != 0 {
		return 0, errno
	}
	return int64(size), nil
}

// explain says why the kernel refused a transfer with EINVAL: sectors of the file system below a regular file
// may be larger than the 512 bytes that every file is taken to have.
func (d *direct) explain(off int64, n int) error {
	var st unix.Statx_t
	err := unix.Statx(d.fd, "", unix.AT_EMPTY_PATH, unix.STATX_DIOALIGN, &st)
	unit := int64(st.Dio_offset_align)
	if err != nil || st.Mask&unix.STATX_DIOALIGN == 0 || unit == 0 || off%unit == 0 && int64(n)%unit == 0 {
		return unix.EINVAL
	}
	return fmt.Errorf("%w: direct I/O to this file moves multiples of %d bytes; "+
		"format the lease with sectors of that size", ErrMisaligned, unit)
}
