package delta

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device"
	"github.com/tenurelock/tenure/leases/device/memdisk"
	"github.com/tenurelock/tenure/leases/monotime"
	"github.com/tenurelock/tenure/leases/ondisk"
	"github.com/tenurelock/tenure/leases/timeouts"
)

// This file walks the interleavings of two hosts that want one host id. Each transfer of each host is given a
// delay before and after the moment at which it touches the disk, from a small set that includes the longest
// that its deadline allows and, for the claim, one that misses it; the second host starts at each of a row of
// times after the first. A host that has acquired the id believes in it until a renewal tells otherwise or
// its lease has run out. Two believers at once are a failure.

// delay is how long a transfer takes to reach the disk, and its answer to come back.
type delay struct{ there, back time.Duration }

// slowDevice moves sectors of a disk with a delay of its own for each transfer; -1 hangs. The last delay
// holds for all transfers that follow.
type slowDevice struct {
	device.Device
	disk *memdisk.Disk

	mu     sync.Mutex
	delays []delay
	busy   sync.WaitGroup
}

func (d *slowDevice) next() delay {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.delays[0]
	if len(d.delays) > 1 {
		d.delays = d.delays[1:]
	}
	return now
}

// move does f between the delays of the next transfer, even if the caller has gone by then.
func (d *slowDevice) move(ctx context.Context, op string, f func()) error {
	now, done := d.next(), make(chan struct{})
	timedOut := &device.OpError{Op: op, Started: true, Err: context.DeadlineExceeded}
	if now.there < 0 {
		<-ctx.Done()
		return timedOut
	}
	d.busy.Go(func() {
		time.Sleep(now.there)
		f()
		time.Sleep(now.back)
		close(done)
	})
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return timedOut
	}
}

func (d *slowDevice) Read(ctx context.Context, off int64, n int) (*device.Buffer, error) {
	p := make([]byte, n)
	if err := d.move(ctx, "read", func() { copy(p, d.disk.Bytes(off, n)) }); err != nil {
		return nil, err
	}
	b := device.NewBuffer(n)
	copy(b.Bytes(), p)
	return b, nil
}

func (d *slowDevice) Write(ctx context.Context, off int64, b *device.Buffer) error {
	p := append([]byte(nil), b.Bytes()...)
	b.Release()
	return d.move(ctx, "write", func() { d.disk.Poke(off, p) })
}

func (d *slowDevice) Settle(context.Context, int64, int) error { return nil }

// join is a way to acquire a host id: ours, a mutant of it, or stock's.
type joinFunc func(context.Context, *Lease) (Claim, error)

func shipped(ctx context.Context, l *Lease) (Claim, error) { return l.Acquire(ctx) }

// altered runs our steps, leaving out or changing some.
func altered(wait func(*Lease, *ondisk.Leader) time.Duration, reread, window bool) joinFunc {
	return func(ctx context.Context, l *Lease) (Claim, error) {
		found, err := l.look(ctx)
		if err != nil {
			return Claim{}, err
		}
		if found.record.Timestamp != 0 && !found.record.ResourceName.Equal(leases.NameOf(l.cfg.HostName)) {
			if found, err = l.outwait(ctx, found); err != nil {
				return Claim{}, err
			}
		}
		at, mine, err := l.claimWithin(ctx, found, window)
		if err != nil {
			return Claim{}, err
		}
		if err := sleep(ctx, wait(l, &found.record)); err != nil {
			return Claim{}, err
		}
		if reread {
			if err := l.confirm(ctx, &mine); err != nil {
				return Claim{}, err
			}
		}
		l.last, l.sure, l.held, l.used = mine, true, true, uint64(l.cfg.Host)
		return Claim{At: at}, nil
	}
}

// claimWithin is claim; without a window the write has only its own deadline, as in stock.
func (l *Lease) claimWithin(ctx context.Context, found sighting, window bool) (
	monotime.Instant, ondisk.Leader, error,
) {
	if window {
		return l.claim(ctx, found)
	}
	at := l.cfg.Clock.Now()
	mine := found.record
	mine.Timestamp, mine.IOTimeout = stamp(at), uint16(l.cfg.Times.IO)
	mine.OwnerID, mine.OwnerGeneration = uint64(l.cfg.Host), found.record.OwnerGeneration+1
	mine.ResourceName = leases.NameOf(l.cfg.HostName)
	return at, mine, l.put(ctx, l.cfg.Times.OneIO(), &mine, nil)
}

func stockWait(l *Lease, found *ondisk.Leader) time.Duration {
	return timeouts.Of(uint32(found.IOTimeout), l.cfg.Times.IO, 0).ShortDelay()
}

func noWait(*Lease, *ondisk.Leader) time.Duration { return 0 }

func ourWait(l *Lease, found *ondisk.Leader) time.Duration { return l.shortDelay(found) }

// rivals are two hosts, their io_timeouts, and that of the free record that they find.
type rivals struct {
	ours, theirs, disk uint32
	we, they           joinFunc
}

// world is one run.
type world struct {
	mu       sync.Mutex
	believes [2]bool
	both     bool
	acquired int
}

// host joins, and believes as long as it may.
func (w *world) host(i int, l *Lease, join joinFunc, hang *slowDevice, stalls bool) {
	claim, err := join(context.Background(), l)
	if err != nil {
		return
	}
	at := claim.At
	ends := func() time.Duration { return at.Add(l.cfg.Times.RenewalFail()).Sub(l.cfg.Clock.Now()) }
	if ends() < l.cfg.Times.RenewalFail()/2 { // as a lockspace does before it relies on an old claim
		r, err := l.Renew(context.Background(), Extra{}, func(leases.HostID, []byte) {})
		if err != nil {
			return
		}
		at = r.At
	}
	if stalls {
		hang.mu.Lock()
		hang.delays = []delay{{there: -1}}
		hang.mu.Unlock()
	}
	w.mu.Lock()
	w.acquired++
	w.both = w.both || w.believes[1-i]
	w.believes[i] = true
	w.mu.Unlock()
	for range 3 {
		due := at.Add(l.cfg.Times.Renewal() + 500*time.Millisecond).Sub(l.cfg.Clock.Now())
		time.Sleep(min(max(due, 500*time.Millisecond), max(ends(), 0)))
		ctx, cancel := context.WithTimeout(context.Background(), max(ends(), 0))
		r, err := l.Renew(ctx, Extra{}, func(leases.HostID, []byte) {})
		cancel()
		if kind := leases.KindOf(err); kind == leases.RenewOwner || kind == leases.RenewDiffer || ends() <= 0 {
			break
		}
		if err == nil {
			at = r.At
		}
	}
	w.mu.Lock()
	w.believes[i] = false
	w.mu.Unlock()
}

// run plays one interleaving.
func (r rivals) run(disk *memdisk.Disk, lag time.Duration, ours, theirs []delay, stalls [2]bool) *world {
	g := ondisk.Geometry{Sector: 512, Align: ondisk.MiB}
	free, sector := ondisk.NewDelta(g, leases.NameOf("LS"), uint16(r.disk)), make([]byte, 512)
	free.Encode(sector)
	disk.Poke(0, sector)
	w := &world{}
	var devs [2]*slowDevice
	var all sync.WaitGroup
	for i, h := range []struct {
		name   string
		io     uint32
		join   joinFunc
		delays []delay
	}{{"we", r.ours, r.we, ours}, {"they", r.theirs, r.they, theirs}} {
		devs[i] = &slowDevice{Device: disk.Open(h.name), disk: disk, delays: h.delays}
		l, err := New(Config{
			Device: devs[i], Geometry: g, Space: leases.NameOf("LS"), Host: 1, HostName: h.name,
			Times: timeouts.Set{IO: h.io, Fire: 60}, Clock: monotime.At(monotime.Instant(1000*time.Second), nil),
		})
		if err != nil {
			panic(err)
		}
		all.Go(func() {
			time.Sleep(time.Duration(i) * lag)
			w.host(i, l, h.join, devs[i], stalls[i])
		})
	}
	all.Wait()
	devs[0].busy.Wait()
	devs[1].busy.Wait()
	return w
}

// choices returns the delays of one host's look, claim and look again.
func choices(io uint32) (all [][]delay) {
	d := time.Duration(io)*time.Second - time.Millisecond
	// A first look that comes to the disk late is a host that starts late: the lags have that.
	firsts, retries := []delay{{}, {0, d}}, []delay{{}, {d, 0}}
	claims := []delay{{}, {d, 0}, {0, d}, {d + d/2, 0}}
	for _, first := range firsts {
		for _, claim := range claims {
			for _, again := range retries {
				all = append(all, []delay{first, claim, again, {}})
			}
		}
	}
	return all
}

// walk plays every interleaving and returns how many there are, how many of them ended with an owner, and the
// first with two believers.
func (r rivals) walk(stopAtFirst bool) (runs, owned int, bad string) {
	disk := memdisk.New(memdisk.Config{Size: ondisk.MiB})
	longest := time.Duration(max(r.ours, r.theirs)) * time.Second
	for lag := time.Duration(0); lag <= 3*longest; lag += longest/3 + 7*time.Millisecond {
		for _, ours := range choices(r.ours) {
			for _, theirs := range choices(r.theirs) {
				for _, stalls := range [][2]bool{{}, {true, true}} {
					w := r.run(disk, lag, ours, theirs, stalls)
					runs++
					owned += min(w.acquired, 1)
					if w.both && bad == "" {
						bad = fmt.Sprintf("second host %v later, delays %v and %v, stalls %v", lag, ours, theirs, stalls)
						if stopAtFirst {
							return runs, owned, bad
						}
					}
				}
			}
		}
	}
	return runs, owned, bad
}

func TestEveryInterleavingHasOneOwner(t *testing.T) {
	for _, r := range []rivals{
		{2, 2, 2, shipped, shipped},
		{2, 3, 2, shipped, shipped},
		{3, 2, 2, shipped, shipped},
		{2, 2, 10, shipped, shipped},
		{2, 30, 2, shipped, shipped},
		// Beside a stock host that is not slower than the record says.
		{2, 2, 2, shipped, altered(stockWait, true, false)},
		{3, 2, 2, shipped, altered(stockWait, true, false)},
	} {
		t.Run(fmt.Sprintf("%d-%d-%d", r.ours, r.theirs, r.disk), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				runs, owned, bad := r.walk(true)
				if bad != "" {
					t.Errorf("two owners: %s", bad)
				}
				if owned*2 < runs {
					t.Errorf("only %d of %d runs had an owner: the walk shows nothing", owned, runs)
				}
				t.Logf("%d interleavings, %d with an owner", runs, owned)
			})
		})
	}
}

// What is left out must be missed, or the walk proves nothing.
func TestInterleavingsCatchMutants(t *testing.T) {
	for name, r := range map[string]rivals{
		"no wait":    {2, 2, 2, altered(noWait, true, true), shipped},
		"no re-read": {2, 2, 2, altered(ourWait, false, true), shipped},
		// A slow claimer, sure to be alone after waiting by the record's io_timeout, overwrites one who is.
		"no window": {2, 3, 2, altered(ourWait, true, true), altered(ourWait, true, false)},
		// Spec ondisk 9.13: stock waits by the record's io_timeout, however slow it is itself.
		"two of stock": {2, 3, 2, altered(stockWait, true, false), altered(stockWait, true, false)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				runs, _, bad := r.walk(true)
				if bad == "" {
					t.Errorf("not caught in %d interleavings", runs)
				}
				t.Logf("caught after %d: %s", runs, bad)
			})
		})
	}
}
