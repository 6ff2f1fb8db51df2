package device

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// The causes an OpError can have beside an errno.
var (
	// ErrShort: the transfer moved fewer bytes than asked, which is how the end of a device looks.
	ErrShort = errors.New("short transfer: beyond the end of the device")
	// ErrMisaligned: offset, length or buffer is not a multiple of the sector size. A bug of the caller.
	ErrMisaligned = errors.New("transfer is not sector aligned")
	// ErrStuck: so many transfers of this device hang in the kernel that no more are started.
	ErrStuck = errors.New("too many transfers hang in the kernel; check the path to the storage")
	// ErrClosed: the device was closed.
	ErrClosed = errors.New("device is closed")
)

// OpError says which transfer failed and how.
type OpError struct {
	Op      string // "read", "write", "open", "settle"
	Device  string
	Off     int64
	Len     int
	Started bool  // the kernel was given the transfer: a write may be, or may yet come to be, on the disk
	Late    *Late // not nil when a started transfer missed its deadline: reap it here
	Err     error
}

// Error prints "write /dev/sdb at 1048576+512: i/o timeout, it may still happen".
func (e *OpError) Error() string {
	if e.Timeout() {
		if e.Started {
			return fmt.Sprintf("%s %s at %d+%d: timed out, it may still happen", e.Op, e.Device, e.Off, e.Len)
		}
		return fmt.Sprintf("%s %s at %d+%d: timed out before it was started", e.Op, e.Device, e.Off, e.Len)
	}
	if e.Op == "open" {
		return fmt.Sprintf("open %s: %v", e.Device, e.Err)
	}
	return fmt.Sprintf("%s %s at %d+%d: %v", e.Op, e.Device, e.Off, e.Len, e.Err)
}

// Unwrap returns the cause.
func (e *OpError) Unwrap() error { return e.Err }

// Timeout reports whether the deadline came first.
func (e *OpError) Timeout() bool {
	return errors.Is(e.Err, os.ErrDeadlineExceeded) || errors.Is(e.Err, context.DeadlineExceeded)
}

// Is makes every timeout match os.ErrDeadlineExceeded.
func (e *OpError) Is(target error) bool { return target == os.ErrDeadlineExceeded && e.Timeout() }

// Late is a transfer that outlived its deadline.
type Late struct {
	done chan struct{}
	buf  *Buffer // of a read; given out once by Wait
	err  error
}

// NewLate returns a Late and the function that completes it, for implementations of Device. buf is the
// buffer of a completed read, nil for a write; ownership goes to whoever calls Wait first.
func NewLate() (l *Late, complete func(buf *Buffer, err error)) {
	l = &Late{done: make(chan struct{})}
	return l, func(buf *Buffer, err error) {
		l.buf, l.err = buf, err
		close(l.done)
	}
}

// Done is closed when the kernel has answered.
func (l *Late) Done() <-chan struct{} { return l.done }
