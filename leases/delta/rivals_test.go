package delta

import (
	"bytes"
	"context"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device/faulty"
	"github.com/tenurelock/tenure/leases/monotime"
	"github.com/tenurelock/tenure/leases/ondisk"
)

// TestNewerMinorSurvives: a record of a newer minor version, with things in it that we do not know, keeps
// every byte that is not ours to change through claim, renewals and release.
func TestNewerMinorSurvives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := formatted(small, 2)
		found := put(disk, 3, func(l *ondisk.Leader) {
			l.Version, l.LVer, l.NumHosts = ondisk.DeltaVersion+3, 0x0102030405060708, 77
			l.Unused1, l.Unused2 = 0x1122334455667788, 0x99aa
			for i := range l.Reserved {
				l.Reserved[i] = byte(0xc0 + i)
			}
			copy(l.SpaceName[20:], "tail of the space")
		})
		dev := disk.Open("me")
		defer dev.Close()
		l := acquired(t, dev, 3, "me")
		want := found
		want.OwnerID, want.OwnerGeneration, want.ResourceName = 3, 1, leases.NameOf("me")
		check := func(when string, timestamp uint64, bits ...leases.HostID) {
			t.Helper()
			want.Timestamp = timestamp
			sector := make([]byte, small.Sector)
			want.Encode(sector)
			for _, h := range bits {
				ondisk.BitmapSet(sector, uint64(h))
			}
			if got := disk.Bytes(small.DeltaOffset(3), small.Sector); !bytes.Equal(got, sector) {
				t.Errorf("%s: got\n% x\nwant\n% x", when, got, sector)
			}
		}
		check("claim", 1000)
		for i := range uint64(3) {
			time.Sleep(4 * time.Second)
			want.WriteID, want.WriteGeneration, want.WriteTimestamp = i, 2*i, 3*i
			extra := Extra{Event: [3]uint64{i, 2 * i, 3 * i}, Bitmap: []leases.HostID{1, leases.HostID(i + 5)}}
			if _, err := l.Renew(t.Context(), extra, blind); err != nil {
				t.Fatal(err)
			}
			check("renewal", 1008+4*i, 1, leases.HostID(i+5))
		}
		if err := l.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		check("release", 0)
	})
}

// outage is what happens to some transfers of a host that lives in a host id: from the n-th on, for a time.
type outage struct {
	kind   faulty.Kind
	name   string
	action func() faulty.Action
	from   int
	times  int
}

func outages() (all []outage) {
	actions := map[string]func() faulty.Action{
		"fails":             func() faulty.Action { return faulty.Fail(nil) },
		"happens but fails": func() faulty.Action { return faulty.FailAfterWriting(nil) },
		"tears":             func() faulty.Action { return faulty.Tear(0, syscall.EIO) },
		"is late":           func() faulty.Action { return faulty.Late(9 * time.Second) },
		"is very late":      func() faulty.Action { return faulty.Late(70 * time.Second) },
		"answers late":      func() faulty.Action { return faulty.LateAnswer(9 * time.Second) },
		"answers very late": func() faulty.Action { return faulty.LateAnswer(70 * time.Second) },
		"hangs":             func() faulty.Action { return faulty.Stall(faulty.NewGate()) },
	}
	for name, action := range actions {
		for _, kind := range []faulty.Kind{faulty.Any, faulty.Read, faulty.Write} {
			for from := range 4 {
				for _, times := range []int{1, 3, 0} {
					all = append(all, outage{kind, name, action, from, times})
				}
			}
		}
	}
	return all
}

// resident lives in a host id until its renewals have failed for too long, or end is over. It returns the time
// until which its processes may have run: its watchdog resets it, and nothing of it reaches the disk after
// that.
func resident(t *testing.T, l *Lease, dev *faulty.Device, at monotime.Instant, end time.Time) time.Time {
	age := func() time.Duration { return l.cfg.Clock.Now().Sub(at) }
	for time.Now().Before(end) && age() < l.cfg.Times.RenewalFail() {
		time.Sleep(min(l.cfg.Times.Renewal(), l.cfg.Times.RenewalFail()-age()))
		ctx, cancel := context.WithTimeout(t.Context(), l.cfg.Times.RenewalFail()-age())
		r, err := l.Renew(ctx, Extra{}, blind)
		cancel()
		switch kind := leases.KindOf(err); {
		case err == nil:
			at = r.At
		case kind == leases.RenewOwner, kind == leases.RenewDiffer:
			t.Errorf("the host id was taken %v after its last renewal: %v", age(), err)
		}
	}
	time.Sleep(l.cfg.Times.HostDead() - age())
	dev.Close()
	return time.Now()
}

// impatient joins without waiting for a host of another name.
func impatient(ctx context.Context, l *Lease) (Claim, error) {
	found, err := l.look(ctx)
	if err != nil {
		return Claim{}, err
	}
	at, mine, err := l.claim(ctx, found)
	if err != nil {
		return Claim{}, err
	}
	if err := sleep(ctx, l.shortDelay(&found.record)); err != nil {
		return Claim{}, err
	}
	return Claim{At: at}, l.confirm(ctx, &mine)
}

// siege lets a host of another name ask for the host id again and again while the resident has an outage. It
// returns how long after the end of the resident it got it: negative is two owners.
func siege(t *testing.T, o outage, lag time.Duration, join joinFunc) time.Duration {
	disk := formatted(small, 2)
	dev := faulty.Wrap(disk.Open("resident"))
	home := leaseOn(t, dev, 1, "resident")
	claim, err := home.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	rule := faulty.On(o.kind, o.action()).From(o.from)
	if o.times > 0 {
		rule.Times(o.times)
	}
	dev.Add(rule)
	over := make(chan time.Time, 1)
	go func() { over <- resident(t, home, dev, claim.At, time.Now().Add(4*time.Minute)) }()
	time.Sleep(lag)
	other := disk.Open("rival")
	defer other.Close()
	rival := leaseOn(t, other, 1, "rival")
	for tries := 0; ; tries++ {
		if _, err = join(t.Context(), rival); err == nil {
			break
		}
		if tries > 30 {
			t.Fatalf("the rival never gets the id: %v", err)
		}
		time.Sleep(time.Second)
	}
	got := time.Now()
	return got.Sub(<-over)
}

// TestRivalDuringOutages: whatever happens to the transfers of a host, another name gets its id only when the
// first has been reset.
func TestRivalDuringOutages(t *testing.T) {
	kept, lost := 0, 0
	for _, o := range outages() {
		for _, lag := range []time.Duration{0, 3100 * time.Millisecond, 13 * time.Second} {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				if late := siege(t, o, lag, shipped); late < 0 {
					t.Errorf("transfer %d (%v) %s, %d times, rival %v later: two owners for %v", o.from, o.kind, o.name,
						o.times, lag, -late)
				}
				if time.Since(began) > 4*time.Minute {
					kept++
				} else {
					lost++
				}
			})
		}
	}
	t.Logf("the id was kept through %d outages and lost in %d", kept, lost)
	if kept < 50 || lost < 50 {
		t.Error("the outages are all of one kind")
	}
}

// TestRivalThatDoesNotWait shows that the siege would notice.
func TestRivalThatDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := outage{faulty.Any, "hangs", func() faulty.Action { return faulty.Stall(faulty.NewGate()) }, 0, 0}
		if late := siege(t, o, time.Second, impatient); late >= 0 {
			t.Errorf("not noticed: %v", late)
		}
	})
}
