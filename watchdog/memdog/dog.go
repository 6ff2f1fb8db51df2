// Package memdog is a watchdog in memory that does what the kernel does with a real one.
package memdog

import (
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/tenurelock/tenure/watchdog"
)

// Faults are what is wrong with a device.
type Faults struct {
	NoWayOut bool          // it cannot be stopped
	Unsure   bool          // it can be stopped, but does not say so
	Takes    time.Duration // the only timeout that it takes; 0: any
	BadPets  error         // what a pet answers; the device is not petted then
	BadOpen  error         // what opening answers
}

// Dog is the device, and the kernel around it. It counts on package time, which a test may make virtual.
type Dog struct {
	mu     sync.Mutex
	faults Faults
	began  time.Time
	fire   time.Duration
	open   bool
	dead   bool        // the process was killed
	timer  *time.Timer // running while the device counts
	last   time.Duration
	fired  time.Duration // 0: not yet
	events []string
	after  func() // told of the reset
}

var _ watchdog.Source = (*Dog)(nil)

// New returns a device that does not count.
func New() *Dog { return &Dog{began: time.Now(), fire: watchdog.DefaultFire} }

// Break sets what is wrong with the device from now on.
func (d *Dog) Break(f Faults) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults = f
}

// OnReset has f called at the moment of a reset, by a goroutine that holds nothing.
func (d *Dog) OnReset(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.after = f
}

// Paths returns the one path.
func (d *Dog) Paths() []string { return []string{"/dev/watchdog0"} }

// Open opens the device, which makes it count.
func (d *Dog) Open(path string) (watchdog.Device, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.dead:
		return nil, errDead
	case d.faults.BadOpen != nil:
		return nil, fmt.Errorf("open %s: %w", path, d.faults.BadOpen)
	case d.open:
		return nil, fmt.Errorf("open %s: %w", path, syscall.EBUSY)
	}
	d.open = true
	d.note("open")
	d.petLocked()
	return &handle{dog: d}, nil
}

// petLocked starts the count. d.mu is held.
func (d *Dog) petLocked() {
	d.last = time.Since(d.began)
	if d.timer != nil {
		d.timer.Stop()
	}
	d.timer = time.AfterFunc(d.fire, d.reset)
}

func (d *Dog) reset() {
	if told := d.resets(); told != nil {
		told()
	}
}

// resets notes a reset and returns whom to tell.
func (d *Dog) resets() func() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer == nil || time.Since(d.began) < d.last+d.fire {
		return nil
	}
	d.timer = nil
	d.fired = time.Since(d.began)
	d.note("reset")
	return d.after
}

func (d *Dog) note(what string) {
	d.events = append(d.events, fmt.Sprintf("%s@%d", what, time.Since(d.began)/time.Second))
}

// Kill is the death of the process that has the device open: the kernel pets it once and lets it count. What the
// process did next would have no effect.
func (d *Dog) Kill() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.open {
		d.note("killed")
		d.petLocked()
	}
	d.open, d.dead = false, true
}

// Began returns when the device was made.
func (d *Dog) Began() time.Time { return d.began }

// Last returns when the device was last petted by anybody, since New.
func (d *Dog) Last() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.last
}

// Fired returns when the device reset the host, since New; 0: it has not.
func (d *Dog) Fired() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.fired
}

// Counting reports whether the device counts.
func (d *Dog) Counting() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.timer != nil
}

// Events returns what happened but for pets, each with its second since New: open, disarm, abandon, killed, reset.
func (d *Dog) Events() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.events...)
}

var errDead = errors.New("the process that had the device open is dead")

// handle is the open device.
type handle struct{ dog *Dog }

func (h *handle) Identity() string { return "/dev/watchdog0" }

func (h *handle) SetTimeout(fire time.Duration) (time.Duration, error) {
	d := h.dog
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return 0, errDead
	}
	if d.faults.Takes != 0 && fire != d.faults.Takes {
		return d.fire, watchdog.ErrTimeout
	}
	d.fire = fire
	d.petLocked()
	return fire, nil
}

func (h *handle) CanStop() bool {
	h.dog.mu.Lock()
	defer h.dog.mu.Unlock()
	return !h.dog.faults.NoWayOut && !h.dog.faults.Unsure
}

func (h *handle) Pet() error {
	d := h.dog
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return errDead
	}
	if d.faults.BadPets != nil {
		return d.faults.BadPets
	}
	if !d.open {
		return syscall.EBADF
	}
	d.petLocked()
	return nil
}

func (h *handle) Disarm() error {
	d := h.dog
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return errDead
	}
	if d.faults.NoWayOut {
		return watchdog.ErrNoWayOut
	}
	d.open = false
	if d.timer != nil {
		d.timer.Stop()
	}
	d.timer = nil
	d.note("disarm")
	return nil
}

func (h *handle) Abandon() error {
	d := h.dog
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return errDead
	}
	d.note("abandon")
	d.petLocked()
	d.open = false
	return nil
}
