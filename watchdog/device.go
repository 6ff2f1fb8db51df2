// Package watchdog names a device that resets this host unless it is petted.
package watchdog

import (
	"errors"
	"time"
)

// DefaultFire is the time from the last pet to the reset that all hosts of a lockspace count on unless they
// were all told another (spec sanlock-daemon 0).
const DefaultFire = 60 * time.Second

// Errors of a Device, for errors.Is.
var (
	// ErrNoWayOut says that the device cannot be stopped any more. It is still open, and counting.
	ErrNoWayOut = errors.New("this watchdog cannot be disarmed once it was opened (nowayout)")
	// ErrStops says that the device stops counting whenever it is closed, so also when the process that pets
	// it is killed: it would not reset the host then.
	ErrStops = errors.New("this watchdog stops when its process dies (its driver has no magic close); " +
		"load its driver with nowayout=1, or use another, for instance softdog")
	// ErrTimeout says that the device does not take the wanted timeout.
	ErrTimeout = errors.New("this watchdog does not take the timeout")
)

// Device is an open watchdog. It counts from being opened. It is used by one goroutine.
type Device interface {
	// Identity names the path and the driver, for people.
	Identity() string
	// SetTimeout sets the time from a pet to the reset and pets. It returns the time in force: the longest
	// that can pass from a pet to the reset. Anything but the wanted time is an error too.
	SetTimeout(fire time.Duration) (time.Duration, error)
	// CanStop reports whether it is known that Disarm stops the device.
	CanStop() bool
	// Pet starts the count anew.
	Pet() error
	// Disarm stops the device and closes it. With ErrNoWayOut it is still open and counting. With any other
	// error it is closed and may still count.
	Disarm() error
	// Abandon closes the device so that it goes on counting. The kernel pets it once more then, and never
	// again, even if this process dies.
	Abandon() error
}

// Source opens devices.
type Source interface {
	// Paths lists the candidates in the order in which they are tried.
	Paths() []string
	// Open opens one of them, which starts it. An error means that it does not count because of us.
	Open(path string) (Device, error)
}
