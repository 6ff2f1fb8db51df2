package client

import (
	"encoding/binary"
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// killTimer is a timer of the kernel that kills this process. Its interrupt comes before any program runs on after
// the machine stood still, and a process with a SIGKILL does not run on. It lasts as long as the process.
type killTimer struct{ id int32 }

// sigevent is what timer_create takes: a value of 8 bytes that nobody reads, the signal, how it is told (0: to the
// process), and room for other ways.
type sigevent [64]byte

func newKillTimer() (*killTimer, error) {
	var event sigevent
	binary.NativeEndian.PutUint32(event[8:], uint32(unix.SIGKILL))
	var t killTimer
	_, _, errno := unix.Syscall(unix.SYS_TIMER_CREATE, unix.CLOCK_BOOTTIME,
		uintptr(unsafe.Pointer(&event)), uintptr(unsafe.Pointer(&t.id))) //nolint:gosec // the kernel's interface
	if errno != 0 {
		return nil, fmt.Errorf("timer_create: %w", errno)
	}
	return &t, nil
}

// Set implements Timer. What has passed fires at once.
func (t *killTimer) Set(in time.Duration) error {
	spec := struct{ interval, value unix.Timespec }{value: unix.NsecToTimespec(max(int64(in), 1))}
	_, _, errno := unix.Syscall6(unix.SYS_TIMER_SETTIME, uintptr(t.id), 0,
		uintptr(unsafe.Pointer(&spec)), 0, 0, 0) //nolint:gosec // the kernel's interface
	if errno != 0 {
		return fmt.Errorf("timer_settime: %w", errno)
	}
	return nil
}
