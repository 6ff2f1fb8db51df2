// Package faulty makes a device fail, stall, tear or answer late, as a script says.
//
// A faulty device has queues of its own in front of the device it wraps: a transfer that a rule keeps past
// its deadline is late exactly as one that hangs in the kernel is, with the same error, the same Late, and
// the same wait of later writes to its sectors.
package faulty

import (
	"context"
	"slices"
	"sync"

	"github.com/tenurelock/tenure/leases/device"
)

// Kind is a direction of transfer.
type Kind uint8

// Any is either direction, in a rule.
const (
	Any Kind = iota
	Read
	Write
)

// String returns "read", "write" or "any".
func (k Kind) String() string { return [...]string{"any", "read", "write"}[k] }

// Op is a transfer that was started.
type Op struct {
	Kind Kind
	Off  int64 // bytes
	Len  int   // bytes
}

// Device is a device.Device that obeys rules, and keeps a log of the transfers that were started.
type Device struct {
	*device.Lanes
	inner   device.Device
	closing chan struct{}
	close   func() error

	mu    sync.Mutex
	rules []Rule
	ops   []Op
}

// Wrap returns a device that moves its sectors through inner, which it owns from now on. The first rule that
// matches a transfer decides over it, but all are asked, so that each counts what it sees.
func Wrap(inner device.Device, rules ...Rule) *Device {
	d := &Device{inner: inner, closing: make(chan struct{}), rules: slices.Clone(rules)}
	d.Lanes = device.NewLanes(driver{d}, inner.Geometry(), device.Options{})
	d.close = sync.OnceValue(func() error {
		close(d.closing)
		return d.Lanes.Close()
	})
	return d
}

// Add appends rules.
func (d *Device) Add(rules ...Rule) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rules = append(d.rules, rules...)
}

// Close closes the device. What a rule still delays ends now with device.ErrClosed, and what it has not
// written by now is never written, as when a host dies before its disk has heard of the transfer. The inner
// device is closed after the last transfer.
func (d *Device) Close() error { return d.close() }

// Ops returns the transfers that were started so far, oldest first.
func (d *Device) Ops() []Op {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.ops)
}

// Reads returns how many reads were started.
func (d *Device) Reads() int { return d.count(Read) }

// Writes returns how many writes were started.
func (d *Device) Writes() int { return d.count(Write) }

func (d *Device) count(k Kind) (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, op := range d.ops {
		if op.Kind == k {
			n++
		}
	}
	return n
}

// Forget empties the log. Rules keep their counts.
func (d *Device) Forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ops = nil
}

// decide logs op and asks the rules.
func (d *Device) decide(op Op) Action {
	d.mu.Lock()
	d.ops = append(d.ops, op)
	rules := slices.Clone(d.rules)
	d.mu.Unlock()
	var action Action
	decided := false
	for _, r := range rules {
		if a, ok := r.decide(op, decided); ok && !decided {
			action, decided = a, true
		}
	}
	return action
}

// driver carries out what the rules say.
type driver struct{ d *Device }

// ReadSectors implements device.Driver.
func (r driver) ReadSectors(off int64, p []byte) error {
	return r.d.obey(Op{Kind: Read, Off: off, Len: len(p)}, func(int) error {
		buf, err := r.d.inner.Read(context.Background(), off, len(p))
		if err != nil {
			return err
		}
		defer buf.Release()
		copy(p, buf.Bytes())
		return nil
	})
}

// WriteSectors implements device.Driver.
func (r driver) WriteSectors(off int64, p []byte) error {
	return r.d.obey(Op{Kind: Write, Off: off, Len: len(p)}, func(n int) error {
		if n == 0 {
			return nil
		}
		buf := device.NewBuffer(n)
		copy(buf.Bytes(), p)
		return r.d.inner.Write(context.Background(), off, buf)
	})
}

// Close implements device.Driver.
func (r driver) Close() error { return r.d.inner.Close() }

// obey performs a transfer of which perform moves the first n bytes.
func (d *Device) obey(op Op, perform func(n int) error) error {
	a := d.decide(op)
	if err := a.before.wait(d.closing); err != nil {
		return err
	}
	n := op.Len
	switch {
	case a.skip:
		return a.err
	case a.tear:
		n = min(n, a.sectors*d.Geometry().SectorSize)
	}
	if err := perform(n); err != nil {
		return err
	}
	if err := a.after.wait(d.closing); err != nil {
		return err
	}
	return a.err
}
