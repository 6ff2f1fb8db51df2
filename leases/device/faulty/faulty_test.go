package faulty_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/tenurelock/tenure/leases/device"
	"github.com/tenurelock/tenure/leases/device/faulty"
	"github.com/tenurelock/tenure/leases/device/memdisk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func disk() *memdisk.Disk { return memdisk.New(memdisk.Config{Size: 1 << 20}) }

func wrap(t *testing.T, disk *memdisk.Disk, rules ...faulty.Rule) *faulty.Device {
	d := faulty.Wrap(disk.Open("mem"), rules...)
	t.Cleanup(func() { d.Close() })
	return d
}

func write(t *testing.T, d device.Device, wait time.Duration, off int64, v byte, n int) error {
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	b := device.NewBuffer(n)
	copy(b.Bytes(), bytes.Repeat([]byte{v}, n))
	return d.Write(ctx, off, b)
}

func read(t *testing.T, d device.Device, wait time.Duration, off int64, n int) ([]byte, error) {
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	b, err := d.Read(ctx, off, n)
	if err != nil {
		return nil, err
	}
	defer b.Release()
	return bytes.Clone(b.Bytes()), nil
}

func late(t *testing.T, err error) *device.Late {
	t.Helper()
	var e *device.OpError
	if !errors.As(err, &e) || !e.Started || e.Late == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %v, want a started transfer past its deadline", err)
	}
	return e.Late
}

func TestPassesAndCounts(t *testing.T) {
	mem := disk()
	d := wrap(t, mem)
	if d.Geometry() != mem.Open("mem").Geometry() {
		t.Errorf("geometry %+v", d.Geometry())
	}
	if err := write(t, d, time.Hour, 512, 7, 1024); err != nil {
		t.Fatal(err)
	}
	if got, err := read(t, d, time.Hour, 512, 512); err != nil || got[0] != 7 || mem.Bytes(1024, 1)[0] != 7 {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := read(t, d, time.Hour, 1<<20, 512); !errors.Is(err, device.ErrShort) {
		t.Errorf("beyond the end: %v", err)
	}
	if _, err := read(t, d, time.Hour, 0, 100); !errors.Is(err, device.ErrMisaligned) {
		t.Errorf("misaligned: %v", err)
	}
	want := []faulty.Op{{faulty.Write, 512, 1024}, {faulty.Read, 512, 512}, {faulty.Read, 1 << 20, 512}}
	if got := d.Ops(); !slices.Equal(got, want) || d.Reads() != 2 || d.Writes() != 1 {
		t.Errorf("got %v, want %v", got, want)
	}
	d.Forget()
	if len(d.Ops()) != 0 || d.Reads() != 0 {
		t.Error("not forgotten")
	}
}

func TestFailures(t *testing.T) {
	lied := errors.New("lied")
	for _, c := range []struct {
		name   string
		action faulty.Action
		want   error  // of a write of 4 sectors
		sector []byte // what they hold then
		reads  error
	}{
		{"fail", faulty.Fail(lied), lied, []byte{0, 0, 0, 0}, lied},
		{"fail with EIO", faulty.Fail(nil), syscall.EIO, []byte{0, 0, 0, 0}, syscall.EIO},
		{"fail after writing", faulty.FailAfterWriting(nil), syscall.EIO, []byte{5, 5, 5, 5}, syscall.EIO},
		{"tear", faulty.Tear(3, lied), lied, []byte{5, 5, 5, 0}, nil},
		{"tear all", faulty.Tear(0, lied), lied, []byte{0, 0, 0, 0}, nil},
		{"tear and lie", faulty.Tear(1, nil), nil, []byte{5, 0, 0, 0}, nil},
		{"tear nothing", faulty.Tear(9, lied), lied, []byte{5, 5, 5, 5}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			mem := disk()
			rule := faulty.On(faulty.Any, c.action)
			d := wrap(t, mem, rule)
			err := write(t, d, time.Hour, 0, 5, 2048)
			if !errors.Is(err, c.want) {
				t.Errorf("write: got %v, want %v", err, c.want)
			}
			var e *device.OpError
			if errors.As(err, &e) && (!e.Started || e.Op != "write" || e.Len != 2048 || e.Late != nil) {
				t.Errorf("write: got %#v", e)
			}
			for i, want := range c.sector {
				if got := mem.Bytes(int64(i)*512, 512); !bytes.Equal(got, bytes.Repeat([]byte{want}, 512)) {
					t.Errorf("sector %d holds %d, want %d", i, got[0], want)
				}
			}
			if _, err := read(t, d, time.Hour, 0, 512); !errors.Is(err, c.reads) {
				t.Errorf("read: got %v, want %v", err, c.reads)
			}
			fired := 1
			if c.reads != nil {
				fired = 2
			}
			if rule.Fired() != fired {
				t.Errorf("fired %d times, want %d", rule.Fired(), fired)
			}
		})
	}
}

// Which transfers a rule decides over: written as the indexes of those that fail, of a fixed sequence.
func TestRulesMatch(t *testing.T) {
	fail := faulty.Fail(nil)
	sequence := func(d device.Device) (failed []int) {
		i := 0
		note := func(err error) {
			if err != nil {
				failed = append(failed, i)
			}
			i++
		}
		for off := range int64(3) { // 0: write 0, 1: read 0…1, 2: write 1, 3: read 1…2, …
			note(write(t, d, time.Hour, off*512, 1, 512))
			_, err := read(t, d, time.Hour, off*512, 1024)
			note(err)
		}
		return failed
	}
	for _, c := range []struct {
		name string
		rule interface {
			faulty.Rule
			Fired() int
			Last() faulty.Op
		}
		want []int
		last faulty.Op
	}{
		{"first", faulty.OnIndex(0, fail), []int{0}, faulty.Op{faulty.Write, 0, 512}},
		{"by index", faulty.OnIndex(3, fail), []int{3}, faulty.Op{faulty.Read, 512, 1024}},
		{"beyond", faulty.OnIndex(6, fail), nil, faulty.Op{}},
		{"reads", faulty.On(faulty.Read, fail), []int{1, 3, 5}, faulty.Op{faulty.Read, 1024, 1024}},
		{"second write", faulty.On(faulty.Write, fail).From(1).Times(1), []int{2}, faulty.Op{faulty.Write, 512, 512}},
		{"range", faulty.On(faulty.Any, fail).In(512, 512), []int{1, 2, 3}, faulty.Op{faulty.Read, 512, 1024}},
		{"end of range", faulty.On(faulty.Read, fail).In(0, 513), []int{1, 3}, faulty.Op{faulty.Read, 512, 1024}},
		{
			"n-th of a range", faulty.On(faulty.Read, fail).In(512, 512).From(1),
			[]int{3},
			faulty.Op{faulty.Read, 512, 1024},
		},
		{
			"several", faulty.Count(faulty.OnIndex(1, fail), faulty.OnIndex(4, fail), faulty.OnIndex(4, fail)),
			[]int{1, 4},
			faulty.Op{faulty.Write, 1024, 512},
		},
		{"none", faulty.Count(), nil, faulty.Op{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := sequence(wrap(t, disk(), c.rule))
			if !slices.Equal(got, c.want) || c.rule.Fired() != len(c.want) || c.rule.Last() != c.last {
				t.Errorf("failed %v, want %v; fired %d, last %v", got, c.want, c.rule.Fired(), c.rule.Last())
			}
		})
	}
}

func TestFirstRuleDecidesAndAllCount(t *testing.T) {
	first, second := errors.New("first"), errors.New("second")
	a, b := faulty.OnIndex(1, faulty.Fail(first)), faulty.On(faulty.Any, faulty.Fail(second)).From(1).Times(2)
	one, two := wrap(t, disk(), a, b), wrap(t, disk(), a)
	two.Add(b)
	for i, c := range []struct {
		d    device.Device
		want error
	}{{one, nil}, {two, first}, {one, second}, {two, nil}} {
		if err := write(t, c.d, time.Hour, 0, 1, 512); !errors.Is(err, c.want) {
			t.Errorf("write %d: got %v, want %v", i, err, c.want)
		}
	}
	if a.Seen() != 4 || b.Seen() != 4 || a.Fired() != 1 || b.Fired() != 1 {
		t.Errorf("seen %d and %d, fired %d and %d", a.Seen(), b.Seen(), a.Fired(), b.Fired())
	}
}

func TestStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := disk()
		gate := faulty.NewGate()
		d := wrap(t, mem, faulty.On(faulty.Any, faulty.Stall(gate)).Times(2))
		start := time.Now()
		lateWrite := late(t, write(t, d, 2*time.Second, 0, 5, 512))
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("returned after %v", took)
		}
		_, err := read(t, d, time.Second, 512, 512)
		lateRead := late(t, err)
		mem.Poke(512, []byte{9})
		if mem.Bytes(0, 1)[0] != 0 || gate.Arrived() != 2 || d.Stats().Stuck != 2 {
			t.Error("the write did not stall")
		}
		// One write per sector: the next one gives up unstarted, or waits.
		var e *device.OpError
		if err := write(t, d, time.Second, 0, 6, 512); !errors.As(err, &e) || e.Started || !e.Timeout() {
			t.Errorf("got %v", err)
		}
		if err := d.Settle(within(t, time.Second), 0, 512); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("settle: %v", err)
		}
		gate.Release()
		gate.Release()
		if err := d.Settle(t.Context(), 0, 512); err != nil || mem.Bytes(0, 1)[0] != 5 {
			t.Errorf("settle: %v, sector holds %d", err, mem.Bytes(0, 1)[0])
		}
		if _, err := lateWrite.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		b, err := lateRead.Wait(t.Context())
		if err != nil || b.Bytes()[0] != 9 {
			t.Errorf("late read: %v, %v", b, err)
		}
		b.Release()
		if got := d.Writes(); got != 1 {
			t.Errorf("%d writes were started, want 1", got)
		}
	})
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestDelays(t *testing.T) {
	for _, c := range []struct {
		name   string
		action faulty.Action
		early  byte // on the disk when the deadline passes
	}{
		{"late", faulty.Late(10 * time.Second), 0},
		{"late answer", faulty.LateAnswer(10 * time.Second), 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				mem := disk()
				d := wrap(t, mem, faulty.OnIndex(0, c.action), faulty.OnIndex(1, c.action))
				start := time.Now()
				l := late(t, write(t, d, 3*time.Second, 0, 5, 512))
				if got := mem.Bytes(0, 1)[0]; got != c.early {
					t.Errorf("at the deadline the sector holds %d, want %d", got, c.early)
				}
				if _, err := l.Wait(t.Context()); err != nil || time.Since(start) != 10*time.Second {
					t.Errorf("answered %v after %v", err, time.Since(start))
				}
				if got := mem.Bytes(0, 1)[0]; got != 5 {
					t.Errorf("in the end the sector holds %d", got)
				}
				// In time it is only slow.
				if err := write(t, d, time.Minute, 0, 6, 512); err != nil || time.Since(start) != 20*time.Second {
					t.Errorf("got %v after %v", err, time.Since(start))
				}
			})
		})
	}
}

func TestGateDrops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := disk()
		before, after := faulty.NewGate(), faulty.NewGate()
		d := wrap(t, mem, faulty.OnIndex(0, faulty.Stall(before)), faulty.OnIndex(1, faulty.StallAnswer(after)))
		a := late(t, write(t, d, time.Second, 0, 5, 512))
		b := late(t, write(t, d, time.Second, 512, 5, 512))
		before.Drop(syscall.ENODEV)
		after.Drop(syscall.EIO)
		before.Release() // too late
		if _, err := a.Wait(t.Context()); !errors.Is(err, syscall.ENODEV) {
			t.Errorf("got %v", err)
		}
		if _, err := b.Wait(t.Context()); !errors.Is(err, syscall.EIO) {
			t.Errorf("got %v", err)
		}
		if mem.Bytes(0, 1)[0] != 0 || mem.Bytes(512, 1)[0] != 5 {
			t.Error("a dropped write was performed, or one whose answer was dropped was not")
		}
	})
}

// A host that dies takes with it what has not reached the disk, and leaves no goroutine in the bubble.
func TestCloseEndsWhatIsDelayed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := disk()
		inner := mem.Open("mem")
		d := faulty.Wrap(inner,
			faulty.On(faulty.Write, faulty.Stall(faulty.NewGate())).In(0, 512),
			faulty.On(faulty.Write, faulty.Late(time.Hour)).In(512, 512),
			faulty.On(faulty.Write, faulty.LateAnswer(time.Hour)).In(1024, 512))
		for off := range int64(3) {
			_ = late(t, write(t, d, time.Second, off*512, 5, 512))
		}
		for range 2 {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}
		if err := d.Settle(t.Context(), 0, 1<<20); err != nil {
			t.Error(err)
		}
		if got := mem.Bytes(0, 1536); got[0] != 0 || got[512] != 0 || got[1024] != 5 {
			t.Errorf("the disk holds %d %d %d", got[0], got[512], got[1024])
		}
		synctest.Wait()
		if _, err := inner.Read(t.Context(), 0, 512); !errors.Is(err, device.ErrClosed) {
			t.Errorf("the inner device is open: %v", err)
		}
	})
}
