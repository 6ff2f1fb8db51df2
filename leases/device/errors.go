package device

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// The causes an OpError can have beside an errno.
var (
	// ErrShort: the transfer moved fewer bytes than asked, which is how the end of a device looks.
	ErrShort = errors.New("short transfer: beyond the end of the device")
	// ErrMisaligned: offset or length is not a multiple of the sector size, or the length is not positive.
	// It wraps EINVAL, which is what the kernel would say. A bug of the caller, or a record that promises
	// smaller sectors than the device has.
	ErrMisaligned = fmt.Errorf("transfer is not sector aligned (%w)", unix.EINVAL)
	// ErrStuck: so many transfers of this device hang in the kernel that no more are started.
	ErrStuck = errors.New("too many transfers hang in the kernel; check the path to the storage")
	// ErrClosed: the device was closed.
	ErrClosed = errors.New("device is closed")
	// ErrReaped: the buffer of a late read was given out before.
	ErrReaped = errors.New("the answer was reaped before")
	// ErrReadOnly: a write to a device that was opened with Options.ReadOnly.
	ErrReadOnly = errors.New("device was opened for reading only")
	// ErrNotStorage: the path names neither a block device nor a regular file.
	ErrNotStorage = errors.New("neither a block device nor a regular file")
	// ErrNoDirectIO: the file system cannot bypass the page cache, so that other hosts would not see writes.
	ErrNoDirectIO = errors.New("the file system has no O_DIRECT, which leases need; " +
		"use a block device, or a file on a file system that has it")
)

// OpError says which transfer failed and how.
type OpError struct {
	Op      string // "read", "write", "open", "settle"
	Device  string
	Off     int64
	Len     int
	Started bool  // the kernel was given the transfer: a write may be, or may yet come to be, on the disk
	Late    *Late // not nil when a started transfer missed its deadline, or was given up: reap it here
	Err     error
}

// Error prints "write /dev/sdb at 1048576+512: timed out, it may still happen".
func (e *OpError) Error() string {
	if e.Op == "open" {
		return fmt.Sprintf("open %s: %v", e.Device, e.Err)
	}
	what := "canceled"
	switch {
	case e.Timeout():
		what = "timed out"
	case !errors.Is(e.Err, context.Canceled):
		return fmt.Sprintf("%s %s at %d+%d: %v", e.Op, e.Device, e.Off, e.Len, e.Err)
	}
	switch {
	case e.Op == "settle":
		what += ", an earlier write still hangs"
	case e.Started:
		what += ", it may still happen"
	default:
		what += " before it was started"
	}
	return fmt.Sprintf("%s %s at %d+%d: %s", e.Op, e.Device, e.Off, e.Len, what)
}

// Unwrap returns the cause.
func (e *OpError) Unwrap() error { return e.Err }

// Timeout reports whether the deadline came first.
func (e *OpError) Timeout() bool {
	return errors.Is(e.Err, os.ErrDeadlineExceeded) || errors.Is(e.Err, context.DeadlineExceeded)
}

// Is makes every timeout match os.ErrDeadlineExceeded.
func (e *OpError) Is(target error) bool { return target == os.ErrDeadlineExceeded && e.Timeout() }
