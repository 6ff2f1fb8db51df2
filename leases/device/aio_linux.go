package device

import (
	"errors"
	"runtime"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// aio writes through the kernel's asynchronous interface and waits for the answer.
//
// A synchronous write to an O_SYNC block device flushes the device's cache twice: the write itself is sent as
// one that must be durable, and then the device is synced once more. An asynchronous one is only sent so
// (Linux 6.18, block/fops.c: the second sync is made only where the write was finished before the call
// returned). Half of the flushes is about half of the time of a lease write.
//
// Each write has a context of its own, so that an answer can only be its own; contexts are kept for reuse, and
// never destroyed: that would take the kernel as long as many writes.
type aio struct {
	mu     sync.Mutex
	idle   []aioContext
	absent bool // the kernel has no such interface, or allows us no more of it
}

type aioContext uintptr

// writes is the one set of contexts of the process: like memory, they belong to no device.
var writes aio

// control is struct iocb of linux/aio_abi.h, on a little-endian machine.
type control struct {
	_      [16]byte // data, key, rw_flags
	opcode uint16
	_      int16 // priority
	fd     uint32
	buf    uint64
	bytes  uint64
	offset int64
	_      [16]byte // reserved, flags, result descriptor
}

// event is struct io_event.
type event struct {
	_      [16]byte // data, object
	result int64
	_      int64
}

const commandWrite = 1 // IOCB_CMD_PWRITE

// errNoAIO: write it another way.
var errNoAIO = errors.New("no asynchronous I/O")

// write writes p at off of fd and returns how much the kernel took. p must not be Go memory that can move.
func (a *aio) write(fd int, p []byte, off int64) (int, error) {
	c, err := a.take()
	if err != nil {
		return 0, err
	}
	one := control{
		opcode: commandWrite, fd: uint32(fd), offset: off, bytes: uint64(len(p)),
		buf: uint64(uintptr(unsafe.Pointer(unsafe.SliceData(p)))),
	}
	list := &one
	_, _, errno := unix.Syscall(unix.SYS_IO_SUBMIT, uintptr(c), 1, uintptr(unsafe.Pointer(&list)))
	runtime.KeepAlive(list)
	if errno != 0 {
		a.put(c)
		return 0, errno
	}
	var answer event
	for {
		n, _, errno := unix.Syscall6(unix.SYS_IO_GETEVENTS, uintptr(c), 1, 1, uintptr(unsafe.Pointer(&answer)), 0, 0)
		if n == 1 {
			break
		}
		if errno != 0 && errno != unix.EINTR {
			// The write is in flight and its answer cannot be had: nothing may touch its memory any more.
			panic("device: io_getevents: " + errno.Error())
		}
	}
	runtime.KeepAlive(p)
	a.put(c)
	if answer.result < 0 {
		return 0, unix.Errno(-answer.result)
	}
	return int(answer.result), nil
}

func (a *aio) take() (aioContext, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.absent {
		return 0, errNoAIO
	}
	if n := len(a.idle); n > 0 {
		c := a.idle[n-1]
		a.idle = a.idle[:n-1]
		return c, nil
	}
	var c aioContext
	if _, _, errno := unix.Syscall(unix.SYS_IO_SETUP, 1, uintptr(unsafe.Pointer(&c)), 0); errno != 0 {
		a.absent = true
		return 0, errNoAIO
	}
	return c, nil
}

func (a *aio) put(c aioContext) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.idle = append(a.idle, c)
}
