package lockspace

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/delta"
	"github.com/tenurelock/tenure/leases/device"
	"github.com/tenurelock/tenure/leases/device/faulty"
	"github.com/tenurelock/tenure/leases/device/memdisk"
	"github.com/tenurelock/tenure/leases/monotime"
	"github.com/tenurelock/tenure/leases/ondisk"
	"github.com/tenurelock/tenure/lockspace/hosts"
)

func recordOf(t *testing.T, disk *memdisk.Disk, host uint64) ondisk.Leader {
	t.Helper()
	l, err := ondisk.DecodeLeader(disk.Bytes(grid.DeltaOffset(host), 512))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func poke(disk *memdisk.Disk, host uint64, l ondisk.Leader) {
	p := make([]byte, 512)
	l.Encode(p)
	disk.Poke(grid.DeltaOffset(host), p)
}

// count returns how often the watchdog was told.
func (l *linkLog) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.told)
}

// sleeper returns a clock of a machine that was suspended for as long as asleep says.
func sleeper(asleep *atomic.Int64) monotime.Clock {
	return monotime.At(monotime.Instant(1000*time.Second), func() time.Duration {
		return time.Duration(asleep.Load())
	})
}

func isLost(s *Space) bool {
	select {
	case <-s.Lost():
		return true
	default:
		return false
	}
}

// Spec ondisk 9.13: after a join that waited by a long io_timeout of the disk, the claim is older than our
// lease may be. Stock's last success is then in the past of its own expiry; ours is renewed before it counts.
func TestSlowJoinIsRenewedFirst(t *testing.T) {
	for _, c := range []struct {
		disk uint16
		own  uint32
	}{{10, 2}, {30, 2}, {255, 1}, {3, 2}, {5, 5}} {
		synctest.Test(t, func(t *testing.T) {
			disk := newDisk(c.disk)
			dev := disk.Open("a")
			defer dev.Close()
			link := &linkLog{}
			cfg := config(dev, 1, "a", c.own)
			cfg.Link = link
			began := cfg.Clock.Now()
			s := join(t, cfg)
			now := cfg.Clock.Now()
			if age := now.Sub(s.Renewed()); age > s.times.ShortDelay()+s.times.OneIO() {
				t.Errorf("%d on disk, %d ours: reported with a lease of %v", c.disk, c.own, age)
			}
			if stock := now.Sub(began) >= s.times.RenewalFail(); stock != (c.disk >= 10) {
				t.Errorf("%d on disk, %d ours: by stock's rule expired at birth: %v", c.disk, c.own, stock)
			}
			if last := link.told[len(link.told)-1]; last[1] <= now.Seconds() {
				t.Errorf("the watchdog was told an end %d that has passed at %d", last[1], now.Seconds())
			}
			if got := uint64(s.Renewed().Seconds()); got != recordOf(t, disk, 1).Timestamp {
				t.Errorf("counted from %d, on disk %d", got, recordOf(t, disk, 1).Timestamp)
			}
			leave(t, s)
		})
	}
}

func TestJoinRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(2)
		dev := disk.Open("a")
		defer dev.Close()
		for name, c := range map[string]struct {
			change func(*Config)
			want   leases.Kind
		}{
			"no name":     {func(c *Config) { c.Name = "" }, leases.Invalid},
			"long name":   {func(c *Config) { c.Name = strings.Repeat("x", 49) }, leases.Invalid},
			"other name":  {func(c *Config) { c.Name = "LS2" }, leases.WrongSpace},
			"io 0":        {func(c *Config) { c.IO = 0 }, leases.Invalid},
			"io 256":      {func(c *Config) { c.IO = 256 }, leases.Invalid},
			"host 0":      {func(c *Config) { c.Host = 0 }, leases.BadHostID},
			"host 2001":   {func(c *Config) { c.Host = 2001 }, leases.BadHostID},
			"no host":     {func(c *Config) { c.HostName = "" }, leases.Invalid},
			"unformatted": {func(c *Config) { c.Offset = 512 * 2047 }, leases.ShortTransfer},
			"link":        {func(c *Config) { c.Link = &linkLog{err: errors.New("no wdmd")} }, leases.WatchdogError},
		} {
			cfg := config(dev, 1, "a", 2)
			c.change(&cfg)
			s, err := Join(t.Context(), cfg)
			if got := leases.KindOf(err); got != c.want || s != nil {
				t.Errorf("%s: %v of kind %d, want %d", name, err, got, c.want)
			}
		}
		if got := recordOf(t, disk, 1); got.Timestamp != 0 {
			t.Error("a join that failed for the watchdog keeps the host id")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := Join(ctx, config(dev, 1, "a", 2)); leases.KindOf(err) != leases.Aborted {
			t.Errorf("aborted: %v", err)
		}
	})
}

// Renewals come every 2 io_timeouts and at most a second, and each is told to the watchdog.
func TestRenewalCadence(t *testing.T) {
	for _, io := range []uint32{1, 2, 5, 10, 30} {
		synctest.Test(t, func(t *testing.T) {
			disk := newDisk(uint16(io))
			dev := disk.Open("a")
			defer dev.Close()
			link := &linkLog{}
			cfg := config(dev, 1, "a", io)
			cfg.Link = link
			s := join(t, cfg)
			if _, ready := s.Hosts(); ready {
				t.Error("hosts are known before the first renewal")
			}
			time.Sleep(time.Second)
			if _, ready := s.Hosts(); !ready {
				t.Error("hosts are not known a second after the join")
			}
			time.Sleep(100 * s.times.Renewal())
			leave(t, s)
			d := monotime.Seconds(io)
			for i, told := range link.told {
				if told[1] != told[0]+8*d {
					t.Errorf("told %v", told)
				}
				if i > 0 && (told[0] < link.told[i-1][0]+2*d || told[0] > link.told[i-1][0]+2*d+2) {
					t.Errorf("io %d: renewed at %v and %v", io, link.told[i-1][0], told[0])
				}
			}
			if n := link.count(); n < 60 || n > 102 {
				t.Errorf("io %d: %d renewals in 200 io_timeouts", io, n)
			}
			if h := s.History(); len(h) != link.count()-1 {
				t.Errorf("%d in the history", len(h))
			}
		})
	}
}

// Every transfer of a membership's life, in turn, fails, is torn, comes late or hangs for ever. Whatever
// happens, a host believes no longer than 8 io_timeouts from its last timestamp on disk, and a single fault
// that is over in time costs nothing.
func TestEveryFaultOfALife(t *testing.T) {
	hang := faulty.Late(1000 * time.Hour)
	for _, a := range []struct {
		name   string
		action faulty.Action
		lives  bool // it survives any single fault of this sort after the join
	}{
		{"fails", faulty.Fail(nil), true},
		{"fails after writing", faulty.FailAfterWriting(nil), true},
		{"is torn", faulty.Tear(0, errors.New("torn")), true},
		{"is lost and confirmed", faulty.Tear(0, nil), false},
		{"comes late", faulty.Late(3 * time.Second), true},
		{"answers late", faulty.LateAnswer(9 * time.Second), true},
		{"hangs", hang, false},
	} {
		t.Run(a.name, func(t *testing.T) {
			for n := range 16 {
				synctest.Test(t, func(t *testing.T) {
					disk := newDisk(2)
					rule := faulty.OnIndex(n, a.action)
					dev := faulty.Wrap(disk.Open("a"), rule)
					defer dev.Close()
					s, err := Join(t.Context(), config(dev, 1, "a", 2))
					if err != nil {
						if rule.Fired() == 0 {
							t.Errorf("transfer %d: %v without a fault", n, err)
						}
						return
					}
					end := time.Now().Add(40 * time.Second)
					for time.Now().Before(end) {
						time.Sleep(100 * time.Millisecond)
						lost := s.Cause() != nil
						stamp := monotime.Instant(recordOf(t, disk, 1).Timestamp) * monotime.Instant(time.Second)
						if age := s.cfg.Clock.Now().Sub(stamp); !lost && age >= s.times.RenewalFail() {
							t.Fatalf("transfer %d (%v): believes %v after its timestamp", n, rule.Last(), age)
						}
						if lost && !isLost(s) {
							t.Fatalf("transfer %d: lost, and nobody is told", n)
						}
					}
					if rule.Fired() == 1 && a.lives && s.Cause() != nil {
						t.Errorf("transfer %d (%v): %v", n, rule.Last(), s.Cause())
					}
					if a.name == "is lost and confirmed" && n < 8 && s.Cause() == nil {
						t.Errorf("write %d was lost, and nobody noticed", n)
					}
					if err := s.Leave(t.Context()); (err != nil) && rule.Last().Kind != faulty.Write {
						t.Errorf("transfer %d: %v", n, err)
					}
				})
			}
		})
	}
}

// The log is a file, perhaps on a disk that hangs too. Expiry must not wait for it.
func TestExpiryWhileTheLogHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(2)
		dev := faulty.Wrap(disk.Open("a"))
		defer dev.Close()
		gate := make(chan struct{})
		cfg := config(dev, 1, "a", 2)
		cfg.Log = zerolog.New(writerFunc(func(p []byte) (int, error) {
			<-gate
			return len(p), nil
		}))
		s := join(t, cfg)
		dev.Add(faulty.On(faulty.Any, faulty.Fail(nil)))
		renewed := s.Renewed()
		<-s.Lost()
		if got := cfg.Clock.Now().Sub(renewed); got != 16*time.Second {
			t.Errorf("lost after %v", got)
		}
		close(gate)
		if err := s.Leave(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestWarnings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(2)
		dev := faulty.Wrap(disk.Open("a"))
		defer dev.Close()
		var mu sync.Mutex
		var log bytes.Buffer
		cfg := config(dev, 1, "a", 2)
		cfg.Log = zerolog.New(writerFunc(func(p []byte) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			return log.Write(p)
		}))
		s := join(t, cfg)
		dev.Add(faulty.On(faulty.Read, faulty.Fail(nil)))
		<-s.Lost()
		leave(t, s)
		for _, want := range []string{
			"check_our_lease warning 12 last_success 1000", "check_our_lease warning 15 last_success 1000",
			"renewal error -1 delta_length 0 last_success 1000",
		} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("not in the log: %s", want)
			}
		}
		if strings.Contains(log.String(), "warning 11") || strings.Contains(log.String(), "warning 16") {
			t.Error("warned too early, or of what is over")
		}
	})
}

// A machine that wakes up has lost what was too old by then, is told so within a second, and leaves the host
// id alone, which may be somebody else's.
func TestWakingUpTooLate(t *testing.T) {
	for _, c := range []struct {
		slept time.Duration
		lost  bool
	}{{5 * time.Second, false}, {16 * time.Second, true}, {time.Hour, true}} {
		synctest.Test(t, func(t *testing.T) {
			disk := newDisk(2)
			dev := disk.Open("a")
			defer dev.Close()
			var asleep atomic.Int64
			asleep.Store(int64(24 * time.Hour)) // before all this
			cfg := config(dev, 1, "a", 2)
			cfg.Clock = sleeper(&asleep)
			s := join(t, cfg)
			time.Sleep(10 * time.Second)
			for last := s.Renewed(); s.Renewed() == last; {
				time.Sleep(10 * time.Millisecond)
			}
			time.Sleep(500 * time.Millisecond) // the next renewal is far: it must not be what finds out
			asleep.Add(int64(c.slept))
			rival := recordOf(t, disk, 1)
			if c.lost {
				rival.OwnerGeneration, rival.ResourceName = 9, leases.NameOf("rival")
				poke(disk, 1, rival)
			}
			time.Sleep(time.Second + time.Millisecond)
			if isLost(s) != c.lost {
				t.Errorf("slept %v: lost %v: %v", c.slept, isLost(s), s.Cause())
			}
			if got := fmt.Sprint(s.Cause()); c.lost && !strings.Contains(got, "suspended") {
				t.Errorf("cause %s", got)
			}
			for range 5 {
				if c.lost {
					break
				}
				time.Sleep(time.Minute) // renewals start the count anew
				asleep.Add(int64(c.slept))
				if s.Cause() != nil {
					t.Errorf("slept %v again and again: lost: %v", c.slept, s.Cause())
				}
			}
			leave(t, s)
			got := recordOf(t, disk, 1)
			if c.lost && (got.OwnerGeneration != 9 || got.Timestamp == 0) {
				t.Errorf("the rival's record was overwritten: %+v", got)
			}
			if !c.lost && got.Timestamp != 0 {
				t.Error("not freed")
			}
		})
	}
}

// A machine that sleeps while it joins has no membership when it wakes up, and frees nothing.
func TestSuspendDuringJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(2)
		dev := faulty.Wrap(disk.Open("a"))
		defer dev.Close()
		var asleep atomic.Int64
		cfg := config(dev, 1, "a", 2)
		cfg.Clock = sleeper(&asleep)
		time.AfterFunc(2*time.Second, func() { asleep.Store(int64(time.Hour)) })
		if _, err := Join(t.Context(), cfg); leases.KindOf(err) != leases.Lost {
			t.Errorf("joined with a claim of an hour ago: %v", err)
		}
		if dev.Writes() != 1 {
			t.Errorf("%d writes", dev.Writes())
		}
	})
}

// The suspend may come in the middle of a renewal: what it writes then is not a renewal.
func TestSuspendDuringRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(2)
		var asleep atomic.Int64
		gate := faulty.NewGate()
		dev := faulty.Wrap(disk.Open("a"))
		defer dev.Close()
		link := &linkLog{}
		cfg := config(dev, 1, "a", 2)
		cfg.Link = link
		cfg.Clock = sleeper(&asleep)
		s := join(t, cfg)
		time.Sleep(2 * time.Second)
		dev.Add(faulty.On(faulty.Write, faulty.Stall(gate)).Times(1))
		for gate.Arrived() == 0 {
			time.Sleep(10 * time.Millisecond)
		}
		told := link.count()
		asleep.Store(int64(time.Hour))
		gate.Release()
		synctest.Wait()
		if s.Cause() == nil || link.count() != told {
			t.Errorf("cause %v, told %d times more", s.Cause(), link.count()-told)
		}
		leave(t, s)
	})
}

// Leave: nothing is said to the watchdog after Close, the host id is freed once, by one write; a second Leave
// waits for the first and answers the same.
func TestLeaveOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(2)
		dev := faulty.Wrap(disk.Open("a"))
		defer dev.Close()
		link := &linkLog{}
		cfg := config(dev, 1, "a", 2)
		cfg.Link = link
		s := join(t, cfg)
		time.Sleep(10 * time.Second)
		dev.Forget()
		dev.Add(faulty.On(faulty.Write, faulty.Fail(nil)))
		told := link.count()
		var errs [3]error
		var all sync.WaitGroup
		for i := range errs {
			all.Go(func() { errs[i] = s.Leave(t.Context()) })
		}
		all.Wait()
		for _, err := range errs {
			if leases.KindOf(err) != leases.IO {
				t.Errorf("got %v", err)
			}
		}
		time.Sleep(time.Minute)
		if !link.closed || link.count() != told || dev.Writes() != 1 || dev.Reads() != 0 {
			t.Errorf("closed %v, told %d more, %d writes", link.closed, link.count()-told, dev.Writes())
		}
		if !isLost(s) || s.Status().RenewFail {
			t.Error("leaving is told as a failure, or not at all")
		}
	})
}

// Leave while a renewal is under way: it ends first, and the host id is freed.
func TestLeaveDuringARenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(2)
		gate := faulty.NewGate()
		dev := faulty.Wrap(disk.Open("a"))
		defer dev.Close()
		s := join(t, config(dev, 1, "a", 2))
		dev.Add(faulty.On(faulty.Write, faulty.Stall(gate)))
		time.Sleep(5 * time.Second)
		time.AfterFunc(renewPause/2, gate.Release)
		leave(t, s)
		if recordOf(t, disk, 1).Timestamp != 0 {
			t.Error("not freed")
		}
	})
}

// Leave while a renewal's write hangs: nothing is freed, for nobody knows what is on disk.
func TestLeaveWhileStorageHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(2)
		gate := faulty.NewGate()
		dev := faulty.Wrap(disk.Open("a"))
		defer dev.Close()
		s := join(t, config(dev, 1, "a", 2))
		dev.Add(faulty.On(faulty.Write, faulty.Stall(gate)))
		time.Sleep(5 * time.Second)
		writes := dev.Writes()
		began := time.Now()
		leave(t, s)
		if took := time.Since(began); took != renewPause || dev.Writes() != writes {
			t.Errorf("took %v, %d writes", took, dev.Writes()-writes)
		}
		gate.Release()
		if recordOf(t, disk, 1).Timestamp == 0 {
			t.Error("freed")
		}
	})
}

// A late success does not bring the membership back, and the watchdog does not hear of it.
func TestLateSuccessDoesNotResurrect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(2)
		gate := faulty.NewGate()
		dev := faulty.Wrap(disk.Open("a"))
		defer dev.Close()
		link := &linkLog{}
		cfg := config(dev, 1, "a", 2)
		cfg.Link = link
		s := join(t, cfg)
		dev.Add(faulty.On(faulty.Write, faulty.Stall(gate)))
		<-s.Lost()
		told, renewed := link.count(), s.Renewed()
		gate.Release()
		time.Sleep(time.Minute)
		if s.Cause() == nil || s.Renewed() != renewed || link.count() != told || !s.Status().RenewFail {
			t.Errorf("cause %v, renewed %v, told %d", s.Cause(), s.Renewed(), link.count()-told)
		}
		writes := dev.Writes()
		leave(t, s)
		if dev.Writes() != writes {
			t.Error("freed an id that may be somebody else's")
		}
	})
}

// Spec ondisk 9.4: a host reads the lockspace, another joins right after and takes a lease; the first asks
// about it before its next renewal. By stock's rule, the cache of the last renewal, the slot is free and the
// lease can be taken; ours reads.
func TestProbeDoesNotTrustTheCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(2)
		da, db := disk.Open("a"), disk.Open("b")
		defer da.Close()
		defer db.Close()
		us := join(t, config(da, 1, "a", 10))
		free := recordOf(t, disk, 2)
		free.OwnerID, free.OwnerGeneration = 2, 4
		poke(disk, 2, free)
		time.Sleep(22 * time.Second)
		them := join(t, config(db, 2, "b", 2))
		views, _ := us.Hosts()
		i := slices.IndexFunc(views, func(v hosts.View) bool { return v.Host == 2 })
		if i < 0 || views[i].State != leases.Free {
			t.Fatalf("the cache does not show the hole: %+v", views)
		}
		if v, err := us.Probe(t.Context(), them.Self()); err != nil || v.Gone() {
			t.Errorf("verdict %v, %v", v, err)
		}
		leave(t, us)
		leave(t, them)
	})
}

func TestProbeVerdicts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(2)
		da, db := faulty.Wrap(disk.Open("a")), disk.Open("b")
		defer da.Close()
		defer db.Close()
		us, them := join(t, config(da, 1, "a", 2)), join(t, config(db, 2, "b", 2))
		defer leave(t, us)
		time.Sleep(20 * time.Second)
		owner := them.Self()
		probe := func(o leases.Owner) (leases.Verdict, leases.Kind) {
			v, err := us.Probe(t.Context(), o)
			return v, leases.KindOf(err)
		}
		for _, c := range []struct {
			name string
			o    leases.Owner
			want leases.Verdict
			kind leases.Kind
		}{
			{"ourselves", us.Self(), leases.Alive, 0},
			{"our past", leases.Owner{Host: 1}, leases.Free, 0},
			{"them", owner, leases.Alive, 0},
			{"their past", leases.Owner{Host: 2, Generation: owner.Generation - 1}, leases.Free, 0},
			{"never used", leases.Owner{Host: 7, Generation: 1}, leases.Free, 0},
			{"host 0", leases.Owner{Generation: 1}, 0, leases.Corrupt},
			{"host 2001", leases.Owner{Host: 2001, Generation: 1}, 0, leases.Corrupt},
		} {
			if v, kind := probe(c.o); v != c.want || kind != c.kind {
				t.Errorf("%s: %v, kind %d", c.name, v, kind)
			}
		}
		da.Forget()
		if probe(owner); da.Reads() != 1 || da.Ops()[0].Len != 512 {
			t.Errorf("a probe makes %v", da.Ops())
		}
		da.Add(faulty.On(faulty.Read, faulty.Late(time.Hour)).In(512, 512).Times(1))
		began := time.Now()
		if _, kind := probe(owner); kind != leases.Timeout || time.Since(began) != 2*time.Second {
			t.Errorf("hanging read: kind %d after %v", kind, time.Since(began))
		}
		da.Add(faulty.On(faulty.Read, faulty.Fail(nil)).In(512, 512).Times(1))
		if _, kind := probe(owner); kind != leases.IO {
			t.Errorf("failing read: kind %d", kind)
		}
		good := disk.Bytes(512, 512)
		disk.Poke(512+168, []byte{good[168] ^ 1})
		if _, kind := probe(owner); kind != leases.BadChecksum {
			t.Errorf("damaged record: kind %d", kind)
		}
		disk.Poke(512, good)
		leave(t, them)
		if v, kind := probe(owner); v != leases.Free || kind != 0 {
			t.Errorf("after they left: %v, kind %d", v, kind)
		}
	})
}

// Probes come from many goroutines while renewals go on; the race detector watches.
func TestProbeIsConcurrent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(2)
		da, db := disk.Open("a"), disk.Open("b")
		defer da.Close()
		defer db.Close()
		us, them := join(t, config(da, 1, "a", 2)), join(t, config(db, 2, "b", 2))
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				for range 50 {
					if v, err := us.Probe(t.Context(), them.Self()); err != nil || v.Gone() {
						t.Errorf("%v, %v", v, err)
					}
					us.Hosts()
					us.Status()
					us.History()
					us.Notify(leases.HostID(i + 1))
					time.Sleep(time.Duration(i+1) * 50 * time.Millisecond)
				}
			})
		}
		all.Wait()
		leave(t, us)
		leave(t, them)
	})
}

// Two hosts are given one host id and never stop trying. At no moment do both believe, through crashes, and
// generations only grow.
func TestTwoHostsFightForOneID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(2)
		var holder atomic.Int32
		var joins [2]int
		var last atomic.Uint64
		var all sync.WaitGroup
		booted := time.Now().Add(-time.Hour)
		end := time.Now().Add(2 * time.Hour)
		for i := range 2 {
			all.Go(func() {
				for n := 0; time.Now().Before(end); n++ {
					dev := faulty.Wrap(disk.Open(fmt.Sprint("h", i)))
					cfg := config(dev, 1, fmt.Sprint("h", i), uint32(2+3*i))
					up := time.Since(booted) + time.Duration(i)*time.Hour
					cfg.Clock = monotime.At(monotime.Instant(up), nil)
					s, err := Join(t.Context(), cfg)
					if err != nil {
						if kind := leases.KindOf(err); kind != leases.HostIDBusy {
							t.Errorf("host %d: %v", i, err)
						}
						dev.Close()
						time.Sleep(time.Duration(i+1) * 700 * time.Millisecond)
						continue
					}
					joins[i]++
					if !holder.CompareAndSwap(0, int32(i+1)) {
						t.Errorf("host %d joined while host %d believes", i, holder.Load()-1)
					}
					if g := uint64(s.Self().Generation); g <= last.Swap(g) {
						t.Errorf("generation %d again", g)
					}
					time.Sleep(time.Duration(10+n%7*11) * time.Second)
					if n%3 == 0 { // its storage is gone, and later it is
						dev.Add(faulty.On(faulty.Any, faulty.Fail(nil)))
						<-s.Lost()
					}
					holder.Store(0)
					leave(t, s)
					dev.Close()
					time.Sleep(time.Duration(n%5*4) * time.Second) // now and then long enough for the other one
				}
			})
		}
		all.Wait()
		t.Logf("joined %v times", joins)
		if joins[0] < 5 || joins[1] < 5 {
			t.Errorf("joined %v times: the test shows little", joins)
		}
	})
}

func TestEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(2)
		da, db := disk.Open("a"), disk.Open("b")
		defer da.Close()
		defer db.Close()
		var mu sync.Mutex
		var heard []hosts.Notice
		cb := config(db, 2, "b", 2)
		cb.Notice = func(n hosts.Notice) {
			mu.Lock()
			defer mu.Unlock()
			heard = append(heard, n)
		}
		a, b := join(t, config(da, 1, "a", 2)), join(t, cb)
		time.Sleep(20 * time.Second)
		set := func(to leases.HostID, number uint64, flags EventFlags) leases.Kind {
			return leases.KindOf(a.SetEvent(to, hosts.Event{Number: number, Data: 5}, flags))
		}
		for i, c := range []struct {
			to     leases.HostID
			number uint64
			flags  EventFlags
			want   leases.Kind
		}{
			{0, 1, 0, leases.Invalid},
			{2001, 1, 0, leases.Invalid},
			{2, 1, EventCurrentGeneration, 0},
			{2, 1, EventCurrentGeneration, 0},
			{2, 2, 0, leases.Busy},
			{2, 2, EventReplace | EventCurrentGeneration, 0},
			{3, 2, EventAllHosts, 0},
		} {
			if got := set(c.to, c.number, c.flags); got != c.want {
				t.Errorf("call %d: kind %d, want %d", i, got, c.want)
			}
		}
		if _, err := b.Probe(t.Context(), a.Self()); err != nil {
			t.Error(err)
		}
		time.Sleep(2 * time.Second)
		for range 30 { // probes see the record before the renewal does, and must not swallow what it says
			if _, err := b.Probe(t.Context(), a.Self()); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Second)
		}
		mu.Lock()
		if len(heard) < 2 || len(heard) > 4 {
			t.Errorf("heard %d times in 12 s of the bit", len(heard))
		}
		examined := 0
		for _, n := range heard {
			if n.From != a.Self() || n.Event.Number != 2 || n.Event.Data != 5 || !n.Deliver {
				t.Errorf("heard %+v", n)
			}
			if n.Examine {
				examined++
			}
		}
		if examined != 1 {
			t.Errorf("examined %d times", examined)
		}
		heard = nil
		mu.Unlock()
		if set(2, 0, EventClear) != 0 || set(2, 0, EventClearHost) != 0 {
			t.Error("clear")
		}
		a.Notify(2)
		time.Sleep(11 * time.Second)
		mu.Lock()
		if len(heard) == 0 || heard[0].Deliver || !heard[0].Examine {
			t.Errorf("request: %+v", heard)
		}
		mu.Unlock()
		leave(t, a)
		leave(t, b)
	})
}

func TestStatusAndHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(2)
		dev := faulty.Wrap(disk.Open("a"))
		defer dev.Close()
		cfg := config(dev, 1, "a", 2)
		cfg.History = 3
		s := join(t, cfg)
		want := Status{
			AcquireAttempt: 1000, AcquireSuccess: 1000, RenewalAttempt: 1000, RenewalSuccess: 1000,
			RenewalReadExtend: 2 * time.Second,
		}
		if got := s.Status(); got != want {
			t.Errorf("after the join: %+v", got)
		}
		time.Sleep(30 * time.Second)
		h := s.History()
		if len(h) != 3 || h[0].Timestamp >= h[1].Timestamp || h[2].Timestamp != s.Renewed().Seconds() {
			t.Errorf("history %+v", h)
		}
		dev.Add(faulty.On(faulty.Read, faulty.Fail(nil)).Times(1))
		dev.Add(faulty.On(faulty.Read, faulty.Late(3*time.Second)).From(1).Times(1))
		before := s.Renewed().Seconds()
		time.Sleep(11 * time.Second)
		h = s.History()
		i := slices.IndexFunc(h, func(e RenewalEntry) bool { return e.Timestamp == before })
		if i < 0 || h[i].NextErrors != 1 || h[i].NextTimeouts != 1 {
			t.Errorf("history %+v", h)
		}
		if got := s.Status(); got.RenewalResult != nil || got.RenewalSuccess <= before || got.RenewFail {
			t.Errorf("status %+v", got)
		}
		bad := recordOf(t, disk, 1)
		bad.SpaceName = leases.NameOf("LS2")
		poke(disk, 1, bad)
		<-s.Lost()
		if got := s.Status(); leases.KindOf(got.CorruptResult) != leases.WrongSpace || !got.RenewFail ||
			leases.KindOf(got.RenewalResult) != leases.WrongSpace {
			t.Errorf("status %+v", got)
		}
		leave(t, s)
	})
}

// Two hundred lockspaces on one device are joined at once: as long as one and a little, without an amount of
// memory or threads that grows with them.
func TestManyLockspacesAtOnce(t *testing.T) {
	t.Parallel()
	const n = 200
	path := filepath.Join(t.TempDir(), "disk")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(n * ondisk.MiB); err != nil {
		t.Fatal(err)
	}
	for i := range int64(n) {
		area := ondisk.FormatLockspace(grid, leases.NameOf(fmt.Sprint("LS", i)), 1)
		if _, err := f.WriteAt(area[:20*512], i*ondisk.MiB); err != nil {
			t.Fatal(err)
		}
	}
	dev, err := device.Open(path, device.Options{})
	if errors.Is(err, device.ErrNoDirectIO) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	began := time.Now()
	spaces := make([]*Space, n)
	var all sync.WaitGroup
	for i := range spaces {
		all.Go(func() {
			s, err := Join(t.Context(), Config{
				Name: fmt.Sprint("LS", i), Host: 1, HostName: "a", Device: dev, Offset: int64(i) * ondisk.MiB,
				IO: 1, Fire: 60, ReadExtend: -1, History: 180, Clock: monotime.System(),
			})
			if err != nil {
				t.Errorf("lockspace %d: %v", i, err)
				return
			}
			spaces[i] = s
		})
	}
	all.Wait()
	if t.Failed() {
		return
	}
	took := time.Since(began)
	if took > 4*time.Second {
		t.Errorf("joined after %v, one takes 2 s", took)
	}
	time.Sleep(1500 * time.Millisecond) // all have renewed once
	buffers := device.BuffersInUse()
	for i, s := range spaces {
		if err := s.Cause(); err != nil || len(s.History()) == 0 {
			t.Errorf("lockspace %d: %v, %d renewals", i, err, len(s.History()))
		}
		all.Go(func() { leave(t, s) })
	}
	rss, threads := procStatus(t, "VmHWM:"), procStatus(t, "Threads:")
	t.Logf("joined in %v, %d kB at most, %d threads, %d goroutines", took, rss, threads, runtime.NumGoroutine())
	all.Wait()
	if buffers > 40 {
		t.Errorf("%d buffers in use at rest", buffers)
	}
	if threads > 40 {
		t.Errorf("%d threads", threads)
	}
}

func procStatus(t *testing.T, key string) (n int) {
	t.Helper()
	p, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(p), key)
	if _, err := fmt.Sscan(rest, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// One membership on a plain file, with real time and real transfers, in an area that delta.Format made.
func TestJoinOnAPlainFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, make([]byte, 2*ondisk.MiB), 0o600); err != nil {
		t.Fatal(err)
	}
	dev, err := device.Open(path, device.Options{})
	if errors.Is(err, device.ErrNoDirectIO) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	if err := delta.Format(t.Context(), dev, ondisk.MiB, grid, leases.NameOf("LS1"), 1); err != nil {
		t.Fatal(err)
	}
	for want := leases.Generation(1); want <= 2; want++ {
		cfg := config(dev, 7, "a", 1)
		cfg.Offset, cfg.Clock = ondisk.MiB, monotime.System()
		began := time.Now()
		s := join(t, cfg)
		if took := time.Since(began); took < 2*time.Second || took > 3*time.Second {
			t.Errorf("joined after %v, want 2 s", took)
		}
		time.Sleep(1200 * time.Millisecond)
		v, err := s.Probe(t.Context(), s.Self())
		if s.Self().Generation != want || err != nil || v != leases.Alive {
			t.Errorf("%v: %v, %v", s.Self(), v, err)
		}
		if len(s.History()) == 0 {
			t.Error("never renewed")
		}
		leave(t, s)
	}
	l, err := delta.Read(t.Context(), dev, ondisk.MiB, grid, leases.NameOf("LS1"), 7, time.Minute)
	if err != nil || l.Timestamp != 0 || l.OwnerGeneration != 2 {
		t.Errorf("%+v, %v", l, err)
	}
}
