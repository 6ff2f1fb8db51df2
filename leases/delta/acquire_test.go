package delta

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device/faulty"
	"github.com/tenurelock/tenure/leases/device/memdisk"
	"github.com/tenurelock/tenure/leases/monotime"
	"github.com/tenurelock/tenure/leases/ondisk"
	"github.com/tenurelock/tenure/leases/timeouts"
)

func put(disk *memdisk.Disk, host uint64, change func(*ondisk.Leader)) ondisk.Leader {
	l, err := ondisk.DecodeLeader(disk.Bytes(small.DeltaOffset(host), 512))
	if err != nil {
		panic(err)
	}
	change(&l)
	p := make([]byte, 512)
	l.Encode(p)
	disk.Poke(small.DeltaOffset(host), p)
	return l
}

func held(name string, io uint16) func(*ondisk.Leader) {
	return func(l *ondisk.Leader) {
		l.OwnerID, l.OwnerGeneration, l.Timestamp, l.IOTimeout = 1, 5, 77, io
		l.ResourceName = leases.NameOf(name)
	}
}

// Every case of spec ondisk 3.2, with what it waits and how many transfers it makes.
func TestAcquireCases(t *testing.T) {
	later := func(d time.Duration, change func(*ondisk.Leader)) func(*memdisk.Disk) {
		return func(disk *memdisk.Disk) { time.AfterFunc(d, func() { put(disk, 1, change) }) }
	}
	for _, c := range []struct {
		name          string
		found         func(*ondisk.Leader)
		during        func(*memdisk.Disk)
		want          leases.Kind
		took          time.Duration
		reads, writes int
	}{
		{"never used", nil, nil, 0, 4 * time.Second, 2, 1},
		{"free, formatted with 10", func(l *ondisk.Leader) { l.IOTimeout = 10 }, nil, 0, 20 * time.Second, 2, 1},
		{"free, no io_timeout", func(l *ondisk.Leader) { l.IOTimeout = 0 }, nil, 0, 4 * time.Second, 2, 1},
		{"own name", held("me", 2), nil, 0, 4 * time.Second, 2, 1},
		{"own name, slower before", held("me", 30), nil, 0, time.Minute, 2, 1},
		{"own name with a tail", func(l *ondisk.Leader) {
			held("me", 2)(l)
			l.ResourceName[5] = 'x'
		}, nil, 0, 4 * time.Second, 2, 1},
		{"dead", held("them", 2), nil, 0, 80 * time.Second, 3, 1},
		{"dead, 5", held("them", 5), nil, 0, 110 * time.Second, 3, 1},
		{"dead, 10", held("them", 10), nil, 0, 160 * time.Second, 3, 1},
		{"dead, 30", held("them", 30), nil, 0, 360 * time.Second, 3, 1},
		{"dead, unknown io_timeout", held("them", 0), nil, 0, (8*256 + 60 + 4) * time.Second, 3, 1},
		{
			"released while we wait", held("them", 2),
			later(9*time.Second, func(l *ondisk.Leader) { l.Timestamp = 0 }),
			0,
			80 * time.Second, 3, 1,
		},
		{
			"renewed while we wait", held("them", 2), later(75*time.Second, func(l *ondisk.Leader) { l.Timestamp++ }),
			leases.HostIDBusy,
			76 * time.Second, 2, 0,
		},
		{
			"an event while we wait", held("them", 2), later(time.Second, func(l *ondisk.Leader) { l.WriteID++ }),
			leases.HostIDBusy,
			76 * time.Second, 2, 0,
		},
		{
			"lost the race", nil, later(3*time.Second, held("them", 2)), leases.HostIDBusy,
			4 * time.Second, 2, 1,
		},
		{
			"one byte differs after the wait", nil,
			later(3*time.Second, func(l *ondisk.Leader) { l.WriteTimestamp++ }),
			leases.HostIDBusy,
			4 * time.Second, 2, 1,
		},
		{
			"other lockspace", func(l *ondisk.Leader) { l.SpaceName = leases.NameOf("LT") }, nil, leases.WrongSpace,
			0, 1, 0,
		},
		{"no magic", func(l *ondisk.Leader) { l.Magic++ }, nil, leases.BadMagic, 0, 1, 0},
		{"other major", func(l *ondisk.Leader) { l.Version += 1 << 16 }, nil, leases.BadVersion, 0, 1, 0},
		{"newer minor, free", func(l *ondisk.Leader) { l.Version++ }, nil, 0, 4 * time.Second, 2, 1},
		{"newer minor, own name", func(l *ondisk.Leader) {
			held("me", 2)(l)
			l.Version++
		}, nil, 0, 4 * time.Second, 2, 1},
		{"newer minor, held", func(l *ondisk.Leader) {
			held("them", 2)(l)
			l.Version++
		}, nil, leases.Corrupt, 0, 1, 0},
		{"newer flag", func(l *ondisk.Leader) { l.Flags |= 0x400 }, nil, leases.Corrupt, 0, 1, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk := formatted(small, 2)
				if c.found != nil {
					put(disk, 1, c.found)
				}
				if c.during != nil {
					c.during(disk)
				}
				dev := faulty.Wrap(disk.Open("me"))
				defer dev.Close()
				began := time.Now()
				claim, err := leaseOn(t, dev, 1, "me").Acquire(t.Context())
				wantKind(t, "acquire", err, c.want)
				if took := time.Since(began); took != c.took || dev.Reads() != c.reads || dev.Writes() != c.writes {
					t.Errorf("%v, %d reads, %d writes; want %v, %d, %d",
						took, dev.Reads(), dev.Writes(), c.took, c.reads, c.writes)
				}
				record := onDisk(t, disk, small, 1)
				if err == nil && (claim.Owner.Host != 1 || uint64(claim.Owner.Generation) != record.OwnerGeneration ||
					uint64(claim.At.Seconds()) != record.Timestamp) {
					t.Errorf("claim %+v, on disk %+v", claim, record)
				}
				time.Sleep(time.Hour) // what is still to come
			})
		})
	}
}

// Our own io_timeout counts in the short delay if it is the longer one: stock waits by the record's alone.
func TestShortDelayIsOursIfLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := formatted(small, 2)
		dev := disk.Open("me")
		defer dev.Close()
		l := leaseOn(t, dev, 1, "me")
		l.cfg.Times.IO = 5
		began := time.Now()
		claim, err := l.Acquire(t.Context())
		if took := time.Since(began); err != nil || took != 10*time.Second || claim.Waited != took {
			t.Errorf("%v after %v, said to be %v", err, took, claim.Waited)
		}
	})
}

// What a claim keeps of the record it replaces, and what it changes.
func TestClaimPreserves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := formatted(small, 2)
		found := put(disk, 1, func(l *ondisk.Leader) {
			held("me", 7)(l)
			l.LVer, l.Unused1, l.Unused2, l.Version = 3, 4, 5, ondisk.DeltaVersion+1
			l.Flags |= 0x4000
			l.WriteID, l.WriteGeneration, l.WriteTimestamp, l.Reserved[9] = 1, 2, 3, 8
			copy(l.ResourceName[10:], "tail")
		})
		ondisk.BitmapSet(disk.Bytes(0, 512), 9)
		dev := disk.Open("me")
		defer dev.Close()
		l := leaseOn(t, dev, 1, "me")
		l.cfg.AllowUnknownFlags = true
		if _, err := l.Acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		want := found
		want.Timestamp, want.IOTimeout, want.OwnerGeneration, want.ResourceName = 1000, 2, 6, leases.NameOf("me")
		want.Checksum = want.Sum()
		if got := onDisk(t, disk, small, 1); got != want {
			t.Errorf("got %+v\nwant %+v", got, want)
		}
		if bits := ondisk.BitmapHosts(disk.Bytes(0, 512)); len(bits) != 0 {
			t.Errorf("bits %v", bits)
		}
	})
}

func TestNewRefuses(t *testing.T) {
	dev := memdisk.New(memdisk.Config{SectorSize: 4096, Size: 8 << 20}).Open("a")
	defer dev.Close()
	good := configOf(dev, 1, "a")
	good.Geometry = ondisk.Geometry{Sector: 4096, Align: ondisk.MiB}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*Config)
		want   leases.Kind
	}{
		"io_timeout 0":   {func(c *Config) { c.Times.IO = 0 }, leases.Invalid},
		"io_timeout 256": {func(c *Config) { c.Times.IO = 256 }, leases.Invalid},
		"no host name":   {func(c *Config) { c.HostName = "" }, leases.Invalid},
		"48 bytes":       {func(c *Config) { c.HostName = strings.Repeat("x", 48) }, leases.Invalid},
		"no name":        {func(c *Config) { c.Space = leases.Name{} }, leases.Invalid},
		"host 0":         {func(c *Config) { c.Host = 0 }, leases.BadHostID},
		"host 251":       {func(c *Config) { c.Host = 251 }, leases.BadHostID},
		"small sectors":  {func(c *Config) { c.Geometry = small }, leases.Invalid},
	} {
		cfg := good
		c.change(&cfg)
		_, err := New(cfg)
		wantKind(t, name, err, c.want)
	}
}

// Waits end when the caller gives up, and leave nothing running. Only a claim that is on disk is seen through,
// which takes until 80 s here, and freed: no host id is left to time out.
func TestAcquireAborted(t *testing.T) {
	const claimed, confirmed = 76 * time.Second, 80 * time.Second
	for _, after := range []time.Duration{0, time.Second, 40 * time.Second, 78 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			disk := formatted(small, 2)
			put(disk, 1, held("them", 2))
			before := onDisk(t, disk, small, 1)
			dev := disk.Open("me")
			defer dev.Close()
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(after, cancel)
			began := time.Now()
			_, err := leaseOn(t, dev, 1, "me").Acquire(ctx)
			wantKind(t, "aborted", err, leases.Aborted)
			want := after
			if after > claimed {
				want = confirmed
			}
			if took := time.Since(began); took != want {
				t.Errorf("took %v, want %v", took, want)
			}
			switch now := onDisk(t, disk, small, 1); {
			case after < claimed && now != before:
				t.Errorf("the sector was written to: %+v", now)
			case after > claimed && (now.Timestamp != 0 || now.OwnerGeneration != before.OwnerGeneration+1):
				t.Errorf("the claim is left in the sector: %+v", now)
			}
		})
	}
}

// A claim that was given up and lost meanwhile is not freed: the sector is somebody else's.
func TestAbortedClaimThatIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := formatted(small, 2)
		dev := disk.Open("me")
		defer dev.Close()
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, func() {
			put(disk, 1, held("them", 2))
			cancel()
		})
		_, err := leaseOn(t, dev, 1, "me").Acquire(ctx)
		wantKind(t, "lost", err, leases.HostIDBusy)
		if now := onDisk(t, disk, small, 1); now.Timestamp == 0 || !now.ResourceName.Equal(leases.NameOf("them")) {
			t.Errorf("the other host's record is now %+v", now)
		}
	})
}

// Each transfer of an acquire, in each case, fails, hangs, is torn or comes late: that is an error with a
// name, at most one io_timeout after its turn, and the host id is to be had again.
func TestEveryFaultOfAnAcquire(t *testing.T) {
	for _, a := range []struct {
		name   string
		action faulty.Action
		want   leases.Kind
	}{
		{"fails", faulty.Fail(nil), leases.IO},
		{"fails after writing", faulty.FailAfterWriting(nil), leases.IO},
		{"comes late", faulty.Late(30 * time.Second), leases.Timeout},
		{"answers late", faulty.LateAnswer(30 * time.Second), leases.Timeout},
		{"is torn", faulty.Tear(0, context.DeadlineExceeded), leases.Timeout},
		{"is lost and confirmed", faulty.Tear(0, nil), leases.HostIDBusy},
	} {
		for _, found := range []func(*ondisk.Leader){nil, held("them", 2)} {
			for n, fired := 0, true; fired; n++ {
				synctest.Test(t, func(t *testing.T) {
					disk := formatted(small, 2)
					if found != nil {
						put(disk, 1, found)
					}
					rule := faulty.OnIndex(n, a.action)
					dev := faulty.Wrap(disk.Open("me"), rule)
					defer dev.Close()
					_, err := leaseOn(t, dev, 1, "me").Acquire(t.Context())
					if fired = rule.Fired() > 0; fired {
						wantKind(t, a.name, err, a.want)
					} else if err != nil {
						// A rule for writes does not fire on reads: look at all indexes of the longest case.
						t.Errorf("%s, transfer %d: %v without a fault", a.name, n, err)
					}
					fired = fired || n < 4
					time.Sleep(31 * time.Second)
					sound := disk.Open("me")
					defer sound.Close()
					if _, err := leaseOn(t, sound, 1, "me").Acquire(t.Context()); err != nil {
						t.Errorf("%s, transfer %d: the next acquire: %v", a.name, n, err)
					}
				})
			}
		}
	}
}

// A write of an earlier membership of this process is waited for before our sector is read.
func TestAcquireSettlesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := formatted(small, 2)
		dev := faulty.Wrap(disk.Open("me"))
		defer dev.Close()
		old := acquired(t, dev, 1, "me")
		gate := faulty.NewGate()
		dev.Add(faulty.On(faulty.Write, faulty.Stall(gate)).Times(1))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := old.Renew(ctx, Extra{}, blind); err == nil {
			t.Fatal("the write did not stall")
		}
		time.AfterFunc(50*time.Second, gate.Release)
		began := time.Now()
		again := leaseOn(t, dev, 1, "me")
		if _, err := again.Acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 54*time.Second {
			t.Errorf("took %v, want 50 s for the old write and 4 s for the claim", took)
		}
		time.Sleep(4 * time.Second)
		if _, err := again.Renew(t.Context(), Extra{}, blind); err != nil {
			t.Errorf("the old write came after: %v", err)
		}
		stuck := faulty.NewGate()
		dev.Add(faulty.On(faulty.Write, faulty.Stall(stuck)).Times(1))
		defer stuck.Release()
		if _, err := again.Renew(ctx, Extra{}, blind); err == nil {
			t.Fatal("renewed with a context that had ended")
		}
	})
}

// A machine that sleeps between its look and its claim has claimed on the word of an old record.
func TestClaimAfterSuspend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := formatted(small, 2)
		var slept time.Duration
		dev := faulty.Wrap(disk.Open("me"), faulty.On(faulty.Write, faulty.Late(time.Second)))
		defer dev.Close()
		cfg := configOf(dev, 1, "me")
		cfg.Clock = monotime.At(monotime.Instant(time.Hour), func() time.Duration { return slept })
		l, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		found, err := l.look(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		slept = 3*time.Second + time.Nanosecond
		_, _, err = l.claim(t.Context(), found)
		wantKind(t, "claim", err, leases.Timeout)
		slept = 0
		if _, _, err = l.claim(t.Context(), found); err != nil {
			t.Errorf("without the sleep: %v", err)
		}
		time.Sleep(5 * time.Second)
		writes := dev.Writes()
		_, _, err = l.claim(t.Context(), found)
		wantKind(t, "a claim of an old record", err, leases.Timeout)
		if dev.Writes() != writes {
			t.Error("it was written")
		}
	})
}

// For any pair of io_timeouts the claim window of one is never longer than the wait of another that read the
// same record.
func TestWindowFitsEveryWait(t *testing.T) {
	for disk := uint32(1); disk <= timeouts.MaxIO; disk++ {
		for own := uint32(1); own <= timeouts.MaxIO; own += 7 {
			l := Lease{cfg: Config{Times: timeouts.Set{IO: own}}}
			wait := l.shortDelay(&ondisk.Leader{IOTimeout: uint16(disk)})
			if window := time.Duration(2*disk) * time.Second; wait < window {
				t.Fatalf("disk %d, own %d: waits %v, others may take %v", disk, own, wait, window)
			}
		}
	}
}
