package faulty

import (
	"sync"
	"syscall"
	"time"

	"github.com/tenurelock/tenure/leases/device"
)

// Action is what happens to a transfer. The zero Action lets it pass.
type Action struct {
	before, after delay
	skip          bool // nothing is moved
	tear          bool // only the first sectors are written
	sectors       int
	err           error
}

func (a Action) writesOnly() bool { return a.tear }

// Fail moves nothing and answers err; nil means EIO.
func Fail(err error) Action { return Action{skip: true, err: orEIO(err)} }

// FailAfterWriting performs the transfer and answers err; nil means EIO.
func FailAfterWriting(err error) Action { return Action{err: orEIO(err)} }

// Tear writes only the first sectors and answers err; nil means that it lies: it answers success. Reads are
// left alone.
func Tear(sectors int, err error) Action { return Action{tear: true, sectors: sectors, err: err} }

// Late performs the transfer after d and answers then. If that is past the deadline, the caller has its
// timeout at the deadline, and the transfer still happens.
func Late(d time.Duration) Action { return Action{before: delay{after: d}} }

// LateAnswer performs the transfer at once and answers after d: whoever believes in the timeout is wrong.
func LateAnswer(d time.Duration) Action { return Action{after: delay{after: d}} }

// Stall keeps transfers at the gate until it opens, and performs them then.
func Stall(g *Gate) Action { return Action{before: delay{gate: g}} }

// StallAnswer performs transfers at once, and keeps their answers until the gate opens.
func StallAnswer(g *Gate) Action { return Action{after: delay{gate: g}} }

func orEIO(err error) error {
	if err == nil {
		return syscall.EIO
	}
	return err
}

// Gate holds transfers back until it is released.
type Gate struct {
	open chan struct{}
	once sync.Once
	err  error

	mu      sync.Mutex
	arrived int
}

// NewGate returns a closed gate. Inside a synctest bubble it must be made there.
func NewGate() *Gate { return &Gate{open: make(chan struct{})} }

// Release lets everything pass, now and from now on. Only the first Release or Drop of a gate counts.
func (g *Gate) Release() { g.Drop(nil) }

// Drop ends everything at the gate with err, now and from now on: what was stalled never happens.
func (g *Gate) Drop(err error) {
	g.once.Do(func() {
		g.err = err
		close(g.open)
	})
}

// Arrived returns how many transfers have come to the gate.
func (g *Gate) Arrived() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.arrived
}

// delay is a wait for a gate or for a time.
type delay struct {
	gate  *Gate
	after time.Duration
}

// wait returns the gate's error, or device.ErrClosed if the device is closed first.
func (d delay) wait(closing <-chan struct{}) error {
	if d.gate != nil {
		d.gate.mu.Lock()
		d.gate.arrived++
		d.gate.mu.Unlock()
		select {
		case <-d.gate.open:
			return d.gate.err
		case <-closing:
			return device.ErrClosed
		}
	}
	if d.after > 0 {
		timer := time.NewTimer(d.after)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-closing:
			return device.ErrClosed
		}
	}
	return nil
}
