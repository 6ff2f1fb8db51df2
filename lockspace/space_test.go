package lockspace

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device"
	"github.com/tenurelock/tenure/leases/device/faulty"
	"github.com/tenurelock/tenure/leases/device/memdisk"
	"github.com/tenurelock/tenure/leases/monotime"
	"github.com/tenurelock/tenure/leases/ondisk"
	"github.com/tenurelock/tenure/leases/timeouts"
)

var grid = ondisk.Geometry{Sector: 512, Align: ondisk.MiB}

// newDisk returns a disk in memory with a lockspace that was formatted with the given io_timeout.
func newDisk(io uint16) *memdisk.Disk {
	d := memdisk.New(memdisk.Config{SectorSize: 512, Size: ondisk.MiB})
	d.Poke(0, ondisk.FormatLockspace(grid, leases.NameOf("LS1"), io))
	return d
}

func config(dev device.Device, id leases.HostID, name string, io uint32) Config {
	return Config{
		Name: "LS1", Host: id, HostName: name, Device: dev, IO: io, Fire: timeouts.DefaultFire, ReadExtend: -1,
		History: 180, Clock: monotime.At(monotime.Instant(1000*time.Second), nil),
	}
}

func join(t *testing.T, cfg Config) *Space {
	t.Helper()
	s, err := Join(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// die stops a host without a word to anyone: nothing of it touches the disk any more.
func die(s *Space) {
	s.stop()
	s.busy.Wait()
}

func leave(t *testing.T, s *Space) {
	t.Helper()
	if err := s.Leave(context.Background()); err != nil {
		t.Error(err)
	}
}

// TestJoinWaits checks how long each kind of join takes (spec ondisk 3.2, 3.8), for several io_timeouts on
// disk and of our own.
func TestJoinWaits(t *testing.T) {
	for _, c := range []struct {
		disk, own uint32 // io_timeouts
		want      time.Duration
	}{
		{2, 2, 4 * time.Second},
		{5, 5, 10 * time.Second},
		{10, 10, 20 * time.Second},
		{30, 30, 60 * time.Second},
		{10, 2, 20 * time.Second}, // the disk's counts while it is longer ...
		{2, 10, 20 * time.Second}, // ... and ours otherwise
		{0, 5, 10 * time.Second},  // an old disk says nothing
	} {
		synctest.Test(t, func(t *testing.T) {
			disk := newDisk(uint16(c.disk))
			dev := disk.Open("a")
			defer dev.Close()
			began := time.Now()
			s := join(t, config(dev, 1, "a", c.own))
			if got := time.Since(began); got != c.want {
				t.Errorf("io_timeout %d on disk, %d ours: joined after %v, want %v", c.disk, c.own, got, c.want)
			}
			leave(t, s)
		})
	}
}

func TestRejoinAfterDeath(t *testing.T) {
	for _, c := range []struct {
		name string // that comes back
		want time.Duration
	}{
		{"a", 4 * time.Second},        // the same host: nothing to outwait
		{"b", (76 + 4) * time.Second}, // another one: its watchdog must have fired
	} {
		synctest.Test(t, func(t *testing.T) {
			disk := newDisk(2)
			da, db := disk.Open("a"), disk.Open("b")
			defer da.Close()
			defer db.Close()
			first := join(t, config(da, 1, "a", 2))
			die(first)
			began := time.Now()
			s := join(t, config(db, 1, c.name, 2))
			if got := time.Since(began); got != c.want {
				t.Errorf("%q joined after %v, want %v", c.name, got, c.want)
			}
			if got, want := s.Self().Generation, first.Self().Generation+1; got != want {
				t.Errorf("generation %d, want %d", got, want)
			}
			leave(t, s)
		})
	}
}

func TestHostIDInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(2)
		da, db := disk.Open("a"), disk.Open("b")
		defer da.Close()
		defer db.Close()
		a := join(t, config(da, 1, "a", 2))
		_, err := Join(t.Context(), config(db, 1, "b", 2))
		if got, want := leases.KindOf(err), leases.HostIDBusy; got != want {
			t.Errorf("second host on the id: %v of kind %d, want %d", err, got, want)
		}
		leave(t, a)
	})
}

// TestTwoClaimAtOnce lets two hosts claim one free id at every offset in time: at most one may get it.
func TestTwoClaimAtOnce(t *testing.T) {
	for lag := time.Duration(0); lag <= 5*time.Second; lag += 250 * time.Millisecond {
		synctest.Test(t, func(t *testing.T) {
			disk := newDisk(2)
			da, db := disk.Open("a"), disk.Open("b")
			defer da.Close()
			defer db.Close()
			type result struct {
				s   *Space
				err error
			}
			results := make(chan result)
			for i, cfg := range []Config{config(da, 1, "a", 2), config(db, 1, "b", 2)} {
				go func() {
					time.Sleep(time.Duration(i) * lag)
					s, err := Join(t.Context(), cfg)
					results <- result{s, err}
				}()
			}
			joined := 0
			for range 2 {
				if r := <-results; r.err == nil {
					joined++
					defer leave(t, r.s)
				}
			}
			if joined != 1 {
				t.Errorf("%d hosts have the id after claims %v apart", joined, lag)
			}
		})
	}
}

// TestOthersSeeUs follows one host through life and death in the eyes of another, against the table of spec
// ondisk 3.8, for own and foreign io_timeouts.
func TestOthersSeeUs(t *testing.T) {
	for _, c := range []struct{ theirs, ours uint32 }{{2, 2}, {5, 2}, {2, 5}, {10, 10}, {30, 2}} {
		synctest.Test(t, func(t *testing.T) {
			disk := newDisk(uint16(c.theirs))
			da, db := disk.Open("a"), disk.Open("b")
			defer da.Close()
			defer db.Close()
			them := join(t, config(da, 2, "a", c.theirs))
			joining := time.Now()
			us := join(t, config(db, 1, "b", c.ours))
			defer leave(t, us)
			probe := func() leases.Verdict {
				t.Helper()
				v, err := us.Probe(t.Context(), them.Self())
				if err != nil {
					t.Fatal(err)
				}
				return v
			}
			times := timeouts.Set{IO: c.theirs, Fire: timeouts.DefaultFire}
			// The join looked at them, waited, and now this is the second look.
			took, missed := time.Since(joining), times.Renewal()+time.Second
			if got := probe(); got != leases.Alive && (got != leases.Unknown || took > missed) {
				t.Errorf("%d/%d: second look, after %v: %v", c.theirs, c.ours, took, got)
			}
			time.Sleep(2*times.Renewal() + us.Times().Renewal() + 2*time.Second)
			if got := probe(); got != leases.Alive {
				t.Errorf("after its renewals: %v, want LIVE", got)
			}
			die(them)
			died := time.Now()
			var failing, dead time.Duration
			for dead == 0 {
				switch v := probe(); {
				case v == leases.Failing && failing == 0:
					failing = time.Since(died)
				case v == leases.Dead:
					dead = time.Since(died)
				}
				time.Sleep(time.Second)
			}
			// Its last change was seen at most one renewal of theirs before it died and a second after. It fails when it has
			// missed a renewal.
			early, late := -times.Renewal()-time.Second, 2*time.Second
			missed = min(times.HostFail(), times.Renewal()+us.Times().Renewal()+3*time.Second)
			if failing < missed+early || failing > missed+late {
				t.Errorf("%d/%d: failing after %v, want %v", c.theirs, c.ours, failing, missed)
			}
			if dead < times.HostDead()+early || dead > times.HostDead()+late {
				t.Errorf("%d/%d: dead after %v, want %v", c.theirs, c.ours, dead, times.HostDead())
			}
			them.left.Do(func() {})
		})
	}
}

// TestSlowOwnerIsOutwaitedByItsOwnTimeout: stock falls back to its own io_timeout for an owner that it has
// not looked at yet, and takes a lease of a host with 30 s after 76 s (spec ondisk 9.3).
func TestSlowOwnerIsOutwaitedByItsOwnTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(30)
		da, db := disk.Open("a"), disk.Open("b")
		defer da.Close()
		defer db.Close()
		them := join(t, config(da, 2, "a", 30))
		die(them)
		began := time.Now() // a join looks at the others first
		us := join(t, config(db, 1, "b", 2))
		defer leave(t, us)
		stock := timeouts.Set{IO: 2, Fire: timeouts.DefaultFire}.HostDead()
		ours := timeouts.Set{IO: 30, Fire: timeouts.DefaultFire}.HostDead()
		for {
			v, err := us.Probe(t.Context(), them.Self())
			if err != nil {
				t.Fatal(err)
			}
			waited := time.Since(began)
			if v.Gone() {
				if waited <= stock || waited < ours {
					t.Errorf("dead after %v; stock's wrong rule says %v, its own io_timeout %v", waited, stock, ours)
				}
				if waited > ours+2*time.Second {
					t.Errorf("dead only after %v, want %v", waited, ours)
				}
				return
			}
			time.Sleep(time.Second)
		}
	})
}

// TestExpiryWhileStorageHangs: the renewing goroutine is stuck in the kernel; the lease is lost on time all
// the same, counted from before the last write.
func TestExpiryWhileStorageHangs(t *testing.T) {
	for _, io := range []uint32{2, 5, 10, 30} {
		for name, kind := range map[string]faulty.Kind{
			"reads": faulty.Read, "writes": faulty.Write, "all": faulty.Any,
		} {
			synctest.Test(t, func(t *testing.T) {
				disk := newDisk(uint16(io))
				dev := faulty.Wrap(disk.Open("a"))
				gate := faulty.NewGate()
				s := join(t, config(dev, 1, "a", io))
				time.Sleep(3 * s.Times().Renewal())
				dev.Add(faulty.On(kind, faulty.Stall(gate)))
				renewed := s.Renewed()
				<-s.Lost()
				got, want := s.cfg.Clock.Now().Sub(s.Renewed()), s.Times().RenewalFail()
				if got < want || got > want+10*time.Millisecond {
					t.Errorf("io_timeout %d, %s hang: lost %v after the last renewal (%v), want %v",
						io, name, got, renewed, want)
				}
				if got := leases.KindOf(s.Cause()); got != leases.Lost {
					t.Errorf("cause %v", s.Cause())
				}
				_, err := s.Probe(t.Context(), leases.Owner{Host: 2, Generation: 1})
				if leases.KindOf(err) != leases.Lost {
					t.Errorf("probe of a member that is none any more: %v", err)
				}
				gate.Release()
				leave(t, s)
				dev.Close()
			})
		}
	}
}

// TestSuspend: the clock of leases stands still while the machine sleeps, the others' does not.
func TestSuspend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(2)
		dev := disk.Open("a")
		defer dev.Close()
		var slept atomic.Int64
		cfg := config(dev, 1, "a", 2)
		cfg.Clock = sleeper(&slept)
		s := join(t, cfg)
		defer leave(t, s)
		time.Sleep(10 * time.Second)
		if err := s.Cause(); err != nil {
			t.Fatal(err)
		}
		slept.Store(int64(time.Hour))
		if err := s.Cause(); leases.KindOf(err) != leases.Lost {
			t.Errorf("after an hour of sleep: %v", err)
		}
	})
}

// TestStolenSector: somebody else writes our sector; we stop at the next renewal and leave it alone.
func TestStolenSector(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*ondisk.Leader)
		want   leases.Kind
	}{
		"other owner":     {func(l *ondisk.Leader) { l.OwnerGeneration++ }, leases.RenewOwner},
		"other name":      {func(l *ondisk.Leader) { l.ResourceName = leases.NameOf("b") }, leases.RenewOwner},
		"other timestamp": {func(l *ondisk.Leader) { l.Timestamp++ }, leases.RenewDiffer},
		"other lockspace": {func(l *ondisk.Leader) { l.SpaceName = leases.NameOf("LS2") }, leases.WrongSpace},
		"no magic":        {func(l *ondisk.Leader) { l.Magic = 0 }, leases.BadMagic},
		"other major":     {func(l *ondisk.Leader) { l.Version += 1 << 16 }, leases.BadVersion},
	} {
		synctest.Test(t, func(t *testing.T) {
			disk := newDisk(2)
			dev := disk.Open("a")
			defer dev.Close()
			s := join(t, config(dev, 1, "a", 2))
			defer leave(t, s)
			time.Sleep(9 * time.Second)
			l, err := ondisk.DecodeLeader(disk.Bytes(0, 512))
			if err != nil {
				t.Fatal(err)
			}
			c.change(&l)
			sector := make([]byte, 512)
			l.Encode(sector)
			disk.Poke(0, sector)
			<-s.Lost()
			if got := leases.KindOf(s.Cause()); got != c.want {
				t.Errorf("%s: cause %v of kind %d, want %d", name, s.Cause(), got, c.want)
			}
			if got := disk.Bytes(0, 512); string(got) != string(sector) {
				t.Errorf("%s: the sector was overwritten", name)
			}
		})
	}
}

// TestLateReadIsReaped: a renewal read that answers after its deadline serves the next renewal.
func TestLateReadIsReaped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(2)
		dev := faulty.Wrap(disk.Open("a"))
		defer dev.Close()
		s := join(t, config(dev, 1, "a", 2))
		defer leave(t, s)
		dev.Forget()
		dev.Add(faulty.On(faulty.Read, faulty.Late(3*time.Second)).Times(1))
		time.Sleep(5 * time.Second)
		var own int
		for _, op := range dev.Ops() {
			if op.Kind == faulty.Read && op.Off == 0 {
				own++
			}
		}
		if own != 1 {
			t.Errorf("%d reads of our sector, want 1: the late one was not used", own)
		}
		if got, want := dev.Writes(), 1; got != want {
			t.Errorf("%d writes, want %d", got, want)
		}
		if h := s.History(); len(h) != 1 {
			t.Errorf("history %+v", h)
		}
	})
}

// linkLog is a watchdog link that remembers what it was told.
type linkLog struct {
	mu     sync.Mutex
	told   [][2]monotime.Seconds
	closed bool
	err    error
}

func (l *linkLog) Live(renewed, expires monotime.Seconds) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.told = append(l.told, [2]monotime.Seconds{renewed, expires})
	return l.err
}

func (l *linkLog) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	return nil
}

func (l *linkLog) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = err
}

func TestLinkIsToldBeforeAnybodyRelies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(2)
		dev := disk.Open("a")
		defer dev.Close()
		link := &linkLog{}
		cfg := config(dev, 1, "a", 2)
		cfg.Link = link
		s := join(t, cfg)
		if got, want := link.told[0], ([2]monotime.Seconds{1000, 1016}); got != want {
			t.Errorf("first message %v, want %v: counted from before the claim's write", got, want)
		}
		link.fail(context.DeadlineExceeded)
		<-s.Lost()
		if got := leases.KindOf(s.Cause()); got != leases.WatchdogError {
			t.Errorf("cause %v", s.Cause())
		}
		told := len(link.told)
		leave(t, s)
		if !link.closed || len(link.told) != told {
			t.Errorf("closed %v, told %d times after the loss", link.closed, len(link.told)-told)
		}
	})
}
