// Package chardev drives a Linux watchdog character device.
//
// Every answer of the driver is looked at: one that cannot be read back is an error, and a driver that would not
// reset the host when this process dies is refused (spec sanlock-daemon 3.3).
package chardev

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tenurelock/tenure/watchdog"
)

// Error is a step that a device refused.
type Error struct {
	Step string // stat, open, ioctl gettimeout, ioctl settimeout, ioctl keepalive, …
	Path string
	Err  error
}

func (e *Error) Error() string { return fmt.Sprintf("%s %s: %v", e.Step, e.Path, e.Err) }

// Unwrap returns what the kernel said.
func (e *Error) Unwrap() error { return e.Err }

// node is what the kernel offers of an open device.
type node interface {
	Support() (options uint32, identity string, err error)
	Timeout() (seconds int, err error)
	SetTimeout(seconds int) error
	Keepalive() error
	Magic() error // writes the byte that makes the next close stop the device
	Close() error
	// NoWayOut reports whether the driver ignores that byte; err if it cannot be known.
	NoWayOut() (bool, error)
	// Stopped reports whether the device has stopped; err if it cannot be known. It may be asked after Close.
	Stopped() (bool, error)
}

// Device is an open watchdog.
type Device struct {
	path     string
	identity string
	node     node
	nowayout bool // the driver says that it cannot be stopped
	canStop  bool // the driver says that it can
	factor   int  // periods of the driver until the reset
}

var _ watchdog.Device = (*Device)(nil)

// twoPeriods are drivers whose device resets the host at the second end of its timeout, not at the first. Newer
// kernels take that into account on some machines; the reset then comes in half the time, which is safe.
var twoPeriods = []string{"iTCO_wdt"}

// begin asks the driver what it can do. The device is stopped and closed again if it is refused.
func begin(path string, n node) (*Device, error) {
	if _, err := n.Timeout(); err != nil {
		// Not a watchdog: nothing may be written to it.
		return nil, &Error{Step: "ioctl gettimeout", Path: path, Err: errors.Join(err, n.Close())}
	}
	d := &Device{path: path, node: n, factor: 1}
	if nowayout, err := n.NoWayOut(); err == nil {
		d.nowayout, d.canStop = nowayout, !nowayout
	}
	if err := d.inspect(); err != nil {
		// It has begun to count by being opened.
		if undo := d.Disarm(); errors.Is(undo, watchdog.ErrNoWayOut) {
			err = errors.Join(err, undo, n.Close())
		}
		return nil, err
	}
	return d, nil
}

func (d *Device) inspect() error {
	options, identity, err := d.node.Support()
	if err != nil {
		return d.fault("ioctl getsupport", err)
	}
	d.identity = identity
	for _, name := range twoPeriods {
		if strings.EqualFold(identity, name) {
			d.factor = 2
		}
	}
	switch {
	case options&unix.WDIOF_ALARMONLY != 0:
		return d.fault("use", errors.New("it only raises an alarm and does not reset the host"))
	case options&unix.WDIOF_MAGICCLOSE == 0 && !d.nowayout:
		return d.fault("use", watchdog.ErrStops)
	}
	return nil
}

func (d *Device) fault(step string, err error) error {
	return &Error{Step: step, Path: d.path, Err: err}
}

// Identity returns the path, and the name that the driver gives itself.
func (d *Device) Identity() string { return fmt.Sprintf("%s (%s)", d.path, d.identity) }

// SetTimeout sets the time from a pet to the reset, in whole seconds, and reads it back.
func (d *Device) SetTimeout(fire time.Duration) (time.Duration, error) {
	want := int(fire/time.Second) / d.factor
	if want < 1 || fire%time.Second != 0 || fire >= 1<<31*time.Second {
		return 0, d.fault("ioctl settimeout", fmt.Errorf("%w of %v", watchdog.ErrTimeout, fire))
	}
	got, err := d.node.Timeout()
	if err != nil {
		return 0, d.fault("ioctl gettimeout", err)
	}
	if got != want {
		if err := d.node.SetTimeout(want); err != nil {
			return d.inForce(got), d.fault("ioctl settimeout", fmt.Errorf("%w of %v: %w", watchdog.ErrTimeout, fire, err))
		}
		if got, err = d.node.Timeout(); err != nil {
			return 0, d.fault("ioctl gettimeout", err)
		}
	}
	if got != want {
		return d.inForce(got), d.fault("ioctl settimeout",
			fmt.Errorf("%w of %d s, and keeps %d s", watchdog.ErrTimeout, want, got))
	}
	// An odd time on a device of two periods is shorter than was asked for by a second.
	return fire, d.Pet()
}

func (d *Device) inForce(seconds int) time.Duration {
	return time.Duration(seconds*d.factor) * time.Second
}

// CanStop reports whether the driver says that it can be stopped.
func (d *Device) CanStop() bool { return d.canStop }

// Pet starts the count anew.
func (d *Device) Pet() error {
	if err := d.node.Keepalive(); err != nil {
		return d.fault("ioctl keepalive", err)
	}
	return nil
}

// Disarm stops the device and closes it.
func (d *Device) Disarm() error {
	if d.nowayout {
		return d.fault("disarm", watchdog.ErrNoWayOut)
	}
	if err := d.node.Magic(); err != nil {
		return d.fault("disarm write", errors.Join(err, d.node.Close()))
	}
	if err := d.node.Close(); err != nil {
		return d.fault("close", err)
	}
	if stopped, err := d.node.Stopped(); err == nil && !stopped {
		return d.fault("disarm", errors.New("it goes on counting, and will reset this host"))
	}
	return nil
}

// Abandon closes the device so that it goes on counting.
func (d *Device) Abandon() error {
	if err := d.node.Close(); err != nil {
		return d.fault("close", err)
	}
	return nil
}
