package device

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// slow is a driver that notes what it is given, and holds transfers until they are let go.
type slow struct {
	mu     sync.Mutex
	hold   func(write bool, off int64) <-chan struct{} // nil channel: do not hold
	err    error
	data   map[int64]byte // first byte of each sector
	active []*transfer    // writes being performed, to catch two on one sector
	log    []string
	bad    []string
	closed int
}

func (s *slow) ReadSectors(off int64, p []byte) error {
	s.wait(false, off, len(p))
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := 0; i < len(p); i += 512 {
		p[i] = s.data[off+int64(i)]
	}
	return s.err
}

func (s *slow) WriteSectors(off int64, p []byte) error {
	me := &transfer{write: true, off: off, n: len(p)}
	s.mu.Lock()
	for _, o := range s.active {
		if o.overlaps(off, len(p)) {
			s.bad = append(s.bad, fmt.Sprintf("writes in flight at %d+%d and %d+%d", off, len(p), o.off, o.n))
		}
	}
	s.active = append(s.active, me)
	s.mu.Unlock()
	want := bytes.Clone(p)
	s.wait(true, off, len(p))
	s.mu.Lock()
	defer s.mu.Unlock()
	if !bytes.Equal(p, want) {
		s.bad = append(s.bad, fmt.Sprintf("memory of the write to %d changed in flight", off))
	}
	for i := range s.active {
		if s.active[i] == me {
			s.active = append(s.active[:i], s.active[i+1:]...)
			break
		}
	}
	if s.data == nil {
		s.data = map[int64]byte{}
	}
	for i := 0; i < len(p); i += 512 {
		s.data[off+int64(i)] = p[i]
	}
	return s.err
}

func (s *slow) wait(write bool, off int64, n int) {
	s.mu.Lock()
	op := "read"
	if write {
		op = "write"
	}
	s.log = append(s.log, fmt.Sprintf("%s %d+%d", op, off, n))
	hold := s.hold
	s.mu.Unlock()
	if hold != nil {
		if c := hold(write, off); c != nil {
			<-c
		}
	}
}

func (s *slow) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed++
	return nil
}

func (s *slow) lines() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.log, ", ")
}

var slowGeometry = Geometry{Path: "slow", SectorSize: 512, Size: 1 << 30}

// holdAll makes everything hang until the returned function is called.
func (s *slow) holdAll() (release func()) {
	c := make(chan struct{})
	s.hold = func(bool, int64) <-chan struct{} { return c }
	return sync.OnceFunc(func() { close(c) })
}

// filled returns a buffer whose first byte in each sector is v.
func filled(v byte, n int) *Buffer {
	b := NewBuffer(n)
	for i := range b.Bytes() {
		b.Bytes()[i] = v
	}
	return b
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func opError(t *testing.T, err error) *OpError {
	t.Helper()
	var e *OpError
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want an OpError", err)
	}
	return e
}

func TestRefusedBeforeTheDriver(t *testing.T) {
	released := NewBuffer(512)
	released.Release()
	for _, c := range []struct {
		name string
		off  int64
		buf  *Buffer
		n    int
		want error
	}{
		{"offset", 511, NewBuffer(512), 512, ErrMisaligned},
		{"negative offset", -512, NewBuffer(512), 512, ErrMisaligned},
		{"length", 512, NewBuffer(513), 513, ErrMisaligned},
		{"no length", 512, NewBuffer(0), 0, ErrMisaligned},
		{"released buffer", 512, released, -512, ErrMisaligned},
		{"overflow", 1<<63 - 512, NewBuffer(512), 512, ErrShort},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &slow{}
			l := NewLanes(s, slowGeometry, Options{})
			if _, err := l.Read(t.Context(), c.off, c.n); !errors.Is(err, c.want) || opError(t, err).Started {
				t.Errorf("read: got %v, want %v", err, c.want)
			}
			if err := l.Write(t.Context(), c.off, c.buf); !errors.Is(err, c.want) || opError(t, err).Started {
				t.Errorf("write: got %v, want %v", err, c.want)
			}
			if c.buf.Bytes() != nil {
				t.Error("the write left the buffer to its caller")
			}
			if got := s.lines(); got != "" {
				t.Errorf("the driver was given %s", got)
			}
		})
	}
	if !errors.Is(ErrMisaligned, syscall.EINVAL) {
		t.Error("ErrMisaligned is not EINVAL")
	}
}

// Beyond the end there is nothing to be misaligned with, as in the kernel: a read says so, a write is refused.
func TestMisalignedBeyondTheEnd(t *testing.T) {
	l := NewLanes(&slow{}, slowGeometry, Options{})
	for _, off := range []int64{slowGeometry.Size + 100, slowGeometry.Size + 1<<30 - 1} {
		if _, err := l.Read(t.Context(), off, 512); !errors.Is(err, ErrShort) {
			t.Errorf("read at %d: got %v, want %v", off, err, ErrShort)
		}
		if err := l.Write(t.Context(), off, NewBuffer(512)); !errors.Is(err, ErrMisaligned) {
			t.Errorf("write at %d: got %v, want %v", off, err, ErrMisaligned)
		}
	}
	if _, err := l.Read(t.Context(), slowGeometry.Size-100, 512); !errors.Is(err, ErrMisaligned) {
		t.Errorf("read just before the end: got %v, want %v", err, ErrMisaligned)
	}
}

func TestEndedContextStartsNothing(t *testing.T) {
	s := &slow{}
	l := NewLanes(s, slowGeometry, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := l.Write(ctx, 0, NewBuffer(512))
	e := opError(t, err)
	if e.Started || e.Timeout() || !errors.Is(err, context.Canceled) || s.lines() != "" {
		t.Errorf("got %v, driver %q", err, s.lines())
	}
}

func TestReadReturnsAtItsDeadlineAndIsReaped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slow{data: map[int64]byte{1024: 7}}
		release := s.holdAll()
		l := NewLanes(s, slowGeometry, Options{})
		start := time.Now()
		buf, err := l.Read(within(t, 3*time.Second), 1024, 512)
		if took := time.Since(start); took != 3*time.Second || buf != nil {
			t.Fatalf("returned %v after %v", buf, took)
		}
		e := opError(t, err)
		if !e.Started || e.Late == nil || !e.Timeout() || !errors.Is(err, os.ErrDeadlineExceeded) ||
			!errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %#v", e)
		}
		if got, want := err.Error(), "read slow at 1024+512: timed out, it may still happen"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		_, err = e.Late.Wait(within(t, time.Second))
		if w := opError(t, err); !w.Timeout() || w.Off != 1024 || w.Late != e.Late {
			t.Errorf("wait: got %v", err)
		}
		release()
		<-e.Late.Done()
		late, err := e.Late.Wait(t.Context())
		if err != nil || late.Bytes()[0] != 7 {
			t.Fatalf("wait: got %v, %v", late, err)
		}
		late.Release()
		if _, err := e.Late.Wait(t.Context()); !errors.Is(err, ErrReaped) {
			t.Errorf("second wait: got %v", err)
		}
	})
}

func TestCanceledWriteMayStillHappen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slow{}
		release := s.holdAll()
		l := NewLanes(s, slowGeometry, Options{})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		err := l.Write(ctx, 512, filled(9, 512))
		e := opError(t, err)
		if !e.Started || e.Late == nil || e.Timeout() || !errors.Is(err, context.Canceled) {
			t.Fatalf("got %#v", e)
		}
		if got, want := err.Error(), "write slow at 512+512: canceled, it may still happen"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		release()
		for range 2 {
			if buf, err := e.Late.Wait(t.Context()); buf != nil || err != nil {
				t.Errorf("wait: got %v, %v", buf, err)
			}
		}
		if s.data[512] != 9 {
			t.Error("the write did not happen")
		}
	})
}

func TestLateErrorIsTheDriversError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slow{err: syscall.EIO}
		release := s.holdAll()
		l := NewLanes(s, slowGeometry, Options{})
		_, err := l.Read(within(t, time.Second), 0, 512)
		late := opError(t, err).Late
		release()
		buf, err := late.Wait(t.Context())
		if e := opError(t, err); buf != nil || !errors.Is(err, syscall.EIO) || !e.Started || e.Timeout() {
			t.Errorf("got %v, %v", buf, err)
		}
	})
}

func address(b *Buffer) uintptr { return uintptr(unsafe.Pointer(&b.Bytes()[0])) }

// While the kernel may still read or fill the memory of a transfer, nobody else must get it.
func TestMemoryOfALateTransferIsNotHandedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slow{}
		release := s.holdAll()
		l := NewLanes(s, slowGeometry, Options{})
		b := filled(1, 4096)
		mine := address(b)
		err := l.Write(within(t, time.Second), 0, b)
		late := opError(t, err).Late
		var others []*Buffer
		for range 1000 {
			o := filled(2, 4096)
			if address(o) == mine {
				t.Error("the memory of a write in flight was handed out")
			}
			others = append(others, o)
		}
		release()
		if _, err := late.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s.data[0] != 1 || len(s.bad) != 0 {
			t.Errorf("wrote %d; %v", s.data[0], s.bad)
		}
		again := NewBuffer(4096)
		if address(again) != mine {
			t.Error("the memory did not come back after the late write")
		}
		again.Release()
		for _, o := range others {
			o.Release()
		}
	})
}

func TestUnreapedReadIsReleased(t *testing.T) {
	for range 3 { // what earlier tests left
		runtime.GC()
		time.Sleep(10 * time.Millisecond)
	}
	before := BuffersInUse()
	func() {
		s := &slow{}
		release := s.holdAll()
		l := NewLanes(s, slowGeometry, Options{})
		_, err := l.Read(within(t, time.Millisecond), 0, 512)
		late := opError(t, err).Late
		release()
		<-late.Done()
	}()
	for range 200 {
		runtime.GC()
		if BuffersInUse() <= before {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Errorf("%d buffers in use, %d before", BuffersInUse(), before)
}

func TestSecondWriteWaitsForALateOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slow{}
		release := s.holdAll()
		l := NewLanes(s, slowGeometry, Options{})
		first := l.Write(within(t, time.Second), 0, filled(1, 1024))
		s.mu.Lock()
		s.hold = nil
		s.mu.Unlock()

		// The deadline comes before the first write ends: nothing was written, ever.
		err := l.Write(within(t, time.Second), 512, filled(2, 1024))
		if e := opError(t, err); e.Started || e.Late != nil || !e.Timeout() {
			t.Errorf("got %#v", e)
		}
		if got, want := err.Error(), "write slow at 512+1024: timed out before it was started"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		// Neighbours and reads do not wait.
		if err := l.Write(within(t, time.Second), 1024, filled(3, 512)); err != nil {
			t.Error(err)
		}
		if b, err := l.Read(within(t, time.Second), 0, 512); err != nil {
			t.Error(err)
		} else {
			b.Release()
		}
		// One with enough time is started when the first one ends, and wins.
		done := make(chan error)
		go func() { done <- l.Write(within(t, time.Minute), 0, filled(4, 512)) }()
		time.Sleep(10 * time.Second)
		if got, want := s.lines(), "write 0+1024, write 1024+512, read 0+512"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		release()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if _, err := opError(t, first).Late.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		if s.data[0] != 4 || s.data[512] != 1 || s.data[1024] != 3 || len(s.bad) != 0 {
			t.Errorf("got %v %v", s.data, s.bad)
		}
	})
}

// Writes to a sector must reach the disk in the order of the calls, whatever their lengths and deadlines.
func TestRandomWritesKeepTheirOrder(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	synctest.Test(t, func(t *testing.T) {
		dice, delays := rand.New(rand.NewPCG(seed, 0)), rand.New(rand.NewPCG(seed, 1))
		s := &slow{data: map[int64]byte{}}
		s.hold = func(bool, int64) <-chan struct{} {
			s.mu.Lock()
			defer s.mu.Unlock()
			c := make(chan struct{})
			time.AfterFunc(time.Duration(delays.IntN(40))*time.Second, func() { close(c) })
			return c
		}
		l := NewLanes(s, slowGeometry, Options{Lanes: 4, MaxStuck: 30})
		var lastIssued [8]byte
		var mu sync.Mutex
		var wg sync.WaitGroup
		for i := range 200 {
			at, n := dice.IntN(8), 1
			n += dice.IntN(8 - at)
			deadline := time.Duration(1+dice.IntN(60)) * time.Second
			wg.Go(func() {
				err := l.Write(within(t, deadline), int64(at)*512, filled(byte(i), n*512))
				var e *OpError
				if errors.As(err, &e) && !e.Started {
					return // what was never started is no part of the order
				}
				mu.Lock()
				defer mu.Unlock()
				for k := at; k < at+n; k++ {
					lastIssued[k] = max(lastIssued[k], byte(i))
				}
			})
			synctest.Wait() // the calls have an order
			time.Sleep(time.Duration(dice.IntN(4)) * time.Second)
		}
		wg.Wait()
		if err := l.Settle(t.Context(), 0, 8*512); err != nil {
			t.Fatal(err)
		}
		if len(s.bad) != 0 {
			t.Errorf("%v", s.bad)
		}
		for k, want := range lastIssued {
			if got := s.data[int64(k)*512]; got != want {
				t.Errorf("sector %d holds write %d, the last one was %d", k, got, want)
			}
		}
		if got := l.Stats(); got.Stuck != 0 || got.InFlight != 0 || got.StuckEver == 0 {
			t.Errorf("after it all: %+v", got)
		}
	})
}

func TestSettle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slow{}
		release := s.holdAll()
		l := NewLanes(s, slowGeometry, Options{})
		_ = l.Write(within(t, time.Second), 512, filled(1, 512))
		_, _ = l.Read(within(t, time.Second), 4096, 512)
		for _, free := range []int64{0, 1024, 4096} {
			if err := l.Settle(within(t, time.Second), free, 512); err != nil {
				t.Errorf("at %d: %v", free, err)
			}
		}
		err := l.Settle(within(t, time.Second), 0, 4096)
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		want := "settle slow at 0+4096: timed out, an earlier write still hangs"
		if got := err.Error(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		l.Close()
		time.AfterFunc(5*time.Second, release)
		start := time.Now()
		if err := l.Settle(t.Context(), 0, 4096); err != nil || time.Since(start) != 5*time.Second {
			t.Errorf("got %v after %v", err, time.Since(start))
		}
		if s.data[512] != 1 {
			t.Error("settled before the write was on the disk")
		}
	})
}

func TestStuckTransfersLeaveTheirLanes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slow{}
		release := s.holdAll()
		l := NewLanes(s, slowGeometry, Options{Lanes: 1, MaxStuck: 3})
		_ = l.Write(within(t, time.Second), 0, filled(1, 512))
		s.mu.Lock()
		stall := s.hold
		s.hold = nil
		s.mu.Unlock()
		if err := l.Write(within(t, time.Second), 512, filled(1, 512)); err != nil {
			t.Errorf("with one stuck transfer: %v", err)
		}
		s.mu.Lock()
		s.hold = stall
		s.mu.Unlock()
		// Two more get stuck; a fourth waits for the lane, has a long deadline, and is refused early.
		start := time.Now()
		var wg sync.WaitGroup
		for i := range 3 {
			wg.Go(func() {
				deadline := time.Duration(i+1) * time.Second
				_, err := l.Read(within(t, max(deadline, time.Duration(i/2)*time.Hour)), int64(i)*512, 512)
				if i < 2 && !opError(t, err).Timeout() || i == 2 && !errors.Is(err, ErrStuck) {
					t.Errorf("read %d: %v", i, err)
				}
			})
			synctest.Wait()
		}
		wg.Wait()
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("took %v", took)
		}
		if _, err := l.Read(t.Context(), 0, 512); !errors.Is(err, ErrStuck) || opError(t, err).Started {
			t.Errorf("got %v, want ErrStuck", err)
		}
		want := Stats{
			Path: "slow", Stuck: 3, StuckEver: 3,
			Reads: 2, Writes: 2, ReadBytes: 1024, WrittenBytes: 1024,
		}
		if got := l.Stats(); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		release()
		synctest.Wait()
		if err := l.Write(within(t, time.Second), 0, filled(1, 512)); err != nil {
			t.Errorf("after it got loose: %v", err)
		}
	})
}

func TestLanesBoundConcurrency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slow{}
		release := s.holdAll()
		l := NewLanes(s, slowGeometry, Options{Lanes: 3})
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				if err := l.Write(t.Context(), int64(i)*512, filled(1, 512)); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if got := l.Stats().InFlight; got != 3 {
			t.Errorf("%d in flight, want 3", got)
		}
		release()
		wg.Wait()
	})
}

func TestCloseWaitsForTheKernelOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slow{}
		release := s.holdAll()
		l := NewLanes(s, slowGeometry, Options{})
		late := opError(t, l.Write(within(t, time.Second), 0, filled(1, 512))).Late
		waiting := make(chan error)
		go func() { waiting <- l.Write(t.Context(), 0, filled(2, 512)) }()
		synctest.Wait()
		for range 2 {
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		}
		if err := <-waiting; !errors.Is(err, ErrClosed) || opError(t, err).Started {
			t.Errorf("the write that waited: %v", err)
		}
		if _, err := l.Read(t.Context(), 0, 512); !errors.Is(err, ErrClosed) {
			t.Errorf("read after close: %v", err)
		}
		if s.closed != 0 {
			t.Error("closed while a write is in the kernel")
		}
		release()
		if _, err := late.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if s.closed != 1 || s.data[0] != 1 {
			t.Errorf("closed %d times, sector holds %d", s.closed, s.data[0])
		}
	})
}

// Every transfer that ends one way or the other gives its memory back.
func TestNoBufferIsLost(t *testing.T) {
	before := BuffersInUse()
	synctest.Test(t, func(t *testing.T) {
		s := &slow{}
		release := s.holdAll()
		l := NewLanes(s, slowGeometry, Options{Lanes: 2, MaxStuck: 4})
		for i := range 12 {
			ctx := within(t, time.Second)
			_ = l.Write(ctx, int64(i/3)*512, NewBuffer(512))
			_, _ = l.Read(ctx, 0, 511)
		}
		s.mu.Lock()
		s.err = syscall.EIO
		s.mu.Unlock()
		release()
		synctest.Wait()
		_, _ = l.Read(t.Context(), 0, 512)
		l.Close()
		_ = l.Write(t.Context(), 0, NewBuffer(512))
	})
	if got := BuffersInUse(); got > before {
		t.Errorf("%d buffers in use, %d before", got, before)
	}
}
