package device

import (
	"context"
	"errors"
	"math"
	"slices"
	"sync"
)

// What Options means where it is zero.
const (
	DefaultLanes    = 16
	DefaultMaxStuck = 64
)

// Options bounds the work that one device may have in the kernel: at most Lanes + MaxStuck transfers.
type Options struct {
	Lanes    int  // concurrent transfers whose deadline has not passed; 0 means DefaultLanes
	MaxStuck int  // transfers past their deadline, beyond which none is started; 0 means DefaultMaxStuck
	ReadOnly bool // open without the right to write
}

func (o Options) withDefaults() Options {
	if o.Lanes <= 0 {
		o.Lanes = DefaultLanes
	}
	if o.MaxStuck <= 0 {
		o.MaxStuck = DefaultMaxStuck
	}
	return o
}

// Driver moves whole sectors in calls that may block for ever. Lanes calls it from many goroutines, with
// aligned offsets and buffers. It must not keep p when it has returned. Its errors are the causes in an
// OpError.
type Driver interface {
	ReadSectors(off int64, p []byte) error
	WriteSectors(off int64, p []byte) error
	// Close is called once, when the device was closed and the last transfer has ended.
	Close() error
}

// Stats counts what a device did.
type Stats struct {
	Path         string
	InFlight     int    // transfers in the kernel whose deadline has not passed
	Stuck        int    // transfers in the kernel whose deadline has passed
	StuckEver    uint64 // transfers that missed their deadline in the kernel, ended or not
	Reads        uint64 // transfers started
	Writes       uint64
	ReadBytes    uint64 // bytes of the transfers started
	WrittenBytes uint64
}

// Lanes makes a Device out of a Driver. It keeps the promises: a call returns at its deadline, the memory of
// a late transfer is left alone, a sector has one write in flight, and what hangs is bounded.
//
// Every transfer has a goroutine of its own, started when a lane is free and no earlier write to the same
// sectors is in flight or waits; writes to a sector are started in the order of the calls. A transfer that
// misses its deadline leaves its lane and is counted as stuck until the driver returns.
type Lanes struct {
	driver   Driver
	geometry Geometry
	options  Options

	mu      sync.Mutex
	waiting []*transfer // in order of arrival
	writing []*transfer // writes in flight, late ones too
	running int         // in flight, deadline not passed
	stuck   int         // in flight, deadline passed
	closed  bool
	drained func() // called once, without mu, when nothing is in flight
	stats   Stats
}

// NewLanes returns a Device that moves its sectors through d.
func NewLanes(d Driver, g Geometry, o Options) *Lanes {
	return &Lanes{driver: d, geometry: g, options: o.withDefaults()}
}

type state uint8

const (
	waits   state = iota
	runs          // given to the driver
	overdue       // given to the driver, and its caller has gone
	ended
)

type transfer struct {
	write bool
	off   int64
	n     int
	mem   []byte        // nil once the pool or the caller has it
	done  chan struct{} // closed when the transfer has ended or will never be started

	// guarded by Lanes.mu until done is closed
	state   state
	started bool
	late    *Late
	err     error
}

func (t *transfer) op() string {
	if t.write {
		return "write"
	}
	return "read"
}

func (t *transfer) overlaps(off int64, n int) bool {
	return t.write && t.off < off+int64(n) && off < t.off+int64(t.n)
}

// Geometry describes the device.
func (l *Lanes) Geometry() Geometry { return l.geometry }

// Read implements Device.
func (l *Lanes) Read(ctx context.Context, off int64, n int) (*Buffer, error) {
	t := &transfer{off: off, n: n}
	if err := l.check(off, n); err != nil {
		if n > 0 && off >= l.geometry.Size {
			err = ErrShort // the kernel, too, sees the end before it sees that off is misaligned
		}
		return nil, l.fail(t, err)
	}
	t.mem, _ = memory.get(n)
	if err := l.do(ctx, t); err != nil {
		return nil, err
	}
	return &Buffer{mem: t.mem, n: n}, nil
}

// Write implements Device.
func (l *Lanes) Write(ctx context.Context, off int64, b *Buffer) error {
	t := &transfer{write: true, off: off}
	t.mem, t.n = b.take()
	err := l.check(off, t.n)
	if err == nil && l.options.ReadOnly {
		err = ErrReadOnly
	}
	if err != nil {
		t.release()
		return l.fail(t, err)
	}
	return l.do(ctx, t)
}

func (l *Lanes) check(off int64, n int) error {
	size := l.geometry.SectorSize
	switch {
	case n <= 0 || n%size != 0 || off < 0 || off%int64(size) != 0:
		return ErrMisaligned
	case off > math.MaxInt64-int64(n):
		return ErrShort
	}
	return nil
}

// fail describes what happened to t. A driver that is a Device itself has already done so in part.
func (l *Lanes) fail(t *transfer, err error) *OpError {
	if inner, ok := errors.AsType[*OpError](err); ok {
		err = inner.Err
	}
	return &OpError{Op: t.op(), Device: l.geometry.Path, Off: t.off, Len: t.n, Started: t.started, Err: err}
}

// release gives the memory of t to the pool. Only who knows that the driver is done with it may call it.
func (t *transfer) release() {
	if t.mem != nil {
		memory.put(t.mem)
		t.mem = nil
	}
}

// do queues t and waits for its end or for ctx's.
func (l *Lanes) do(ctx context.Context, t *transfer) error {
	err := ctx.Err()
	if err == nil {
		err = l.enqueue(t)
	}
	if err != nil {
		t.release()
		return l.fail(t, err)
	}
	select {
	case <-t.done:
	case <-ctx.Done():
		if late := l.abandon(t); late != nil {
			e := l.fail(t, ctx.Err())
			e.Late = late
			return e
		}
		if !t.started && t.err == nil {
			t.err = ctx.Err()
		}
	}
	if t.err != nil {
		t.release()
		return l.fail(t, t.err)
	}
	return nil
}

func (l *Lanes) enqueue(t *transfer) error {
	t.done = make(chan struct{})
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ErrClosed
	}
	l.waiting = append(l.waiting, t)
	l.dispatch()
	return nil
}

// dispatch starts what may be started. A waiting write keeps its place before later ones to its sectors.
// mu is held.
func (l *Lanes) dispatch() {
	if l.stuck >= l.options.MaxStuck {
		l.refuse(ErrStuck)
		return
	}
	kept := l.waiting[:0]
	for _, t := range l.waiting {
		if l.running < l.options.Lanes && !l.blocked(t, kept) {
			l.start(t)
		} else {
			kept = append(kept, t)
		}
	}
	clear(l.waiting[len(kept):])
	l.waiting = kept
}

// blocked reports whether a write in flight, or one that waits before t, touches the sectors that t writes.
func (l *Lanes) blocked(t *transfer, before []*transfer) bool {
	touches := func(o *transfer) bool { return o.overlaps(t.off, t.n) }
	return t.write && (slices.ContainsFunc(l.writing, touches) || slices.ContainsFunc(before, touches))
}

// refuse ends everything that waits. mu is held.
func (l *Lanes) refuse(err error) {
	for _, t := range l.waiting {
		t.state, t.err = ended, err
		close(t.done)
	}
	clear(l.waiting)
	l.waiting = l.waiting[:0]
}

// start gives t to the driver. mu is held.
func (l *Lanes) start(t *transfer) {
	t.state, t.started = runs, true
	l.running++
	if t.write {
		l.writing = append(l.writing, t)
		l.stats.Writes++
		l.stats.WrittenBytes += uint64(t.n)
	} else {
		l.stats.Reads++
		l.stats.ReadBytes += uint64(t.n)
	}
	go l.run(t)
}

// run is the goroutine of a transfer. It ends when the driver returns, however late.
func (l *Lanes) run(t *transfer) {
	var err error
	if t.write {
		err = l.driver.WriteSectors(t.off, t.mem[:t.n:t.n])
	} else {
		err = l.driver.ReadSectors(t.off, t.mem[:t.n:t.n])
	}
	if t.write || err != nil {
		t.release()
	}
	l.mu.Lock()
	if t.write {
		i := slices.Index(l.writing, t)
		l.writing = slices.Delete(l.writing, i, i+1)
	}
	if t.state == overdue {
		l.stuck--
	} else {
		l.running--
	}
	t.state, t.err = ended, err
	l.dispatch()
	last, drained := l.idle()
	l.mu.Unlock()
	close(t.done)
	if t.late != nil {
		l.answer(t)
	}
	l.finish(last, drained)
}

// answer completes the Late of a transfer that ended after its deadline.
func (l *Lanes) answer(t *transfer) {
	switch {
	case t.err != nil:
		t.late.complete(nil, l.fail(t, t.err))
	case t.write:
		t.late.complete(nil, nil)
	default:
		t.late.complete(&Buffer{mem: t.mem, n: t.n}, nil)
	}
}

// idle says what is to be done when nothing is in flight any more: close the driver, tell who waits for it.
// mu is held.
func (l *Lanes) idle() (last bool, drained func()) {
	if l.running+l.stuck > 0 {
		return false, nil
	}
	drained, l.drained = l.drained, nil
	return l.closed, drained
}

func (l *Lanes) finish(last bool, drained func()) {
	if last {
		// Nobody is left to hear of an error, and every write was durable when it was answered.
		_ = l.driver.Close()
	}
	if drained != nil {
		drained()
	}
}

// abandon gives t up at its deadline. It returns nil if t has ended, or was not started and never will be.
func (l *Lanes) abandon(t *transfer) *Late {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch t.state {
	case waits:
		i := slices.Index(l.waiting, t)
		l.waiting = slices.Delete(l.waiting, i, i+1)
		t.state = ended
		close(t.done)
	case runs:
		t.state = overdue
		t.late, _ = NewLate()
		t.late.what = *l.fail(t, nil)
		l.running--
		l.stuck++
		l.stats.StuckEver++
	case overdue, ended:
		return nil
	}
	l.dispatch()
	return t.late
}

// Settle implements Device. It works on a closed device too.
func (l *Lanes) Settle(ctx context.Context, off int64, n int) error {
	var before []*transfer
	l.mu.Lock()
	for _, list := range [][]*transfer{l.writing, l.waiting} {
		for _, t := range list {
			if t.overlaps(off, n) {
				before = append(before, t)
			}
		}
	}
	l.mu.Unlock()
	for _, t := range before {
		select {
		case <-t.done:
		case <-ctx.Done():
			return &OpError{Op: "settle", Device: l.geometry.Path, Off: off, Len: n, Err: ctx.Err()}
		}
	}
	return nil
}

// Close implements Device. What waits for a lane ends with ErrClosed; what was started ends when it ends.
func (l *Lanes) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	l.refuse(ErrClosed)
	last, drained := l.idle()
	l.mu.Unlock()
	l.finish(last, drained)
	return nil
}

// Stats returns the counters.
func (l *Lanes) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stats
	s.Path, s.InFlight, s.Stuck = l.geometry.Path, l.running, l.stuck
	return s
}

// whenDrained calls f once, as soon as nothing is in flight: now, if nothing is. A later call replaces f;
// nil forgets it.
func (l *Lanes) whenDrained(f func()) {
	l.mu.Lock()
	l.drained = f
	_, drained := l.idle()
	l.mu.Unlock()
	l.finish(false, drained)
}
