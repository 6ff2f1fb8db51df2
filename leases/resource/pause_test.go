package resource

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device/faulty"
	"github.com/tenurelock/tenure/leases/device/memdisk"
	"github.com/tenurelock/tenure/leases/ondisk"
)

// ownedByTwo returns a disk whose lease host 2 holds exclusively, and that host's side of it.
func ownedByTwo(t *testing.T) (*memdisk.Disk, *Lease, *Grant) {
	t.Helper()
	disk := formatted(t, small, 16)
	l := openLease(t, disk)
	g, err := l.Acquire(t.Context(), host(2, 1), ex, oracle{})
	if err != nil {
		t.Fatal(err)
	}
	return disk, l, g
}

func TestSilentOwner(t *testing.T) {
	t.Run("no wait", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			disk, _, _ := ownedByTwo(t)
			l := openLease(t, disk)
			began := time.Now()
			req := Request{Mode: leases.Exclusive, NoWait: true}
			for live, want := range map[leases.Liveness]leases.Kind{
				silent{}:                          leases.Held, // nothing says that it does not live
				&slow{dead: began.Add(time.Hour)}: leases.OwnerSilent,
			} {
				_, err := l.Acquire(t.Context(), host(1, 1), req, live)
				wantKind(t, err, want)
				if !strings.Contains(err.Error(), "host 2 generation 1") {
					t.Errorf("%v: who holds it?", err)
				}
			}
			if time.Since(began) != 0 {
				t.Errorf("waited %v", time.Since(began))
			}
		})
	})
	t.Run("given up", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			disk, _, _ := ownedByTwo(t)
			l := openLease(t, disk)
			ctx, cancel := context.WithTimeout(t.Context(), 4500*time.Millisecond)
			defer cancel()
			began := time.Now()
			_, err := l.Acquire(ctx, host(1, 1), ex, silent{})
			wantKind(t, err, leases.Aborted)
			if got := time.Since(began); got != 4500*time.Millisecond {
				t.Errorf("gave up after %v", got)
			}
			if hb := blockAt(t, disk, 1); hb != (ondisk.HostBlock{}) || l.Unsettled() {
				t.Errorf("left behind: %+v, unsettled %v", hb, l.Unsettled())
			}
			if _, err := l.Acquire(ctx, host(1, 1), ex, silent{}); leases.KindOf(err) != leases.Aborted {
				t.Errorf("with a context that is over: %v", err)
			}
		})
	})
	t.Run("gives it back meanwhile", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			disk, l2, g2 := ownedByTwo(t)
			dev := faulty.Wrap(disk.Open("1"))
			defer dev.Close()
			l := leaseOn(t, small, dev)
			time.AfterFunc(10500*time.Millisecond, func() {
				if err := l2.Release(context.Background(), g2, ""); err != nil {
					t.Error(err)
				}
			})
			began := time.Now()
			g, err := l.Acquire(t.Context(), host(1, 1), ex, silent{})
			if err != nil || g.Version != 2 {
				t.Fatalf("%+v, %v", g, err)
			}
			if got := time.Since(began); got != 11*time.Second {
				t.Errorf("had it after %v, want 11 s", got)
			}
			// While it waits it reads the leader alone, once a second (spec io-cost 1).
			small := 0
			for _, op := range dev.Ops() {
				if op.Kind == faulty.Read && op.Len == 512 {
					small++
				}
			}
			if small != 11 {
				t.Errorf("%d reads of the leader alone, want 11", small)
			}
		})
	})
}

// TestAnswerOfTheOracleFails: an owner that cannot be asked about is not taken for dead.
func TestAnswerOfTheOracleFails(t *testing.T) {
	for _, kind := range []leases.Kind{leases.NotMember, leases.Timeout, leases.BadMagic, leases.NoSpaceDisk} {
		synctest.Test(t, func(t *testing.T) {
			disk, _, _ := ownedByTwo(t)
			l := openLease(t, disk)
			_, err := l.Acquire(t.Context(), host(1, 1), ex, unable{kind})
			wantKind(t, err, kind)
			if l.Unsettled() {
				t.Error("unsettled")
			}
		})
		synctest.Test(t, func(t *testing.T) {
			disk := formatted(t, small, 16)
			if _, err := openLease(t, disk).Acquire(t.Context(), host(2, 1), sh, oracle{}); err != nil {
				t.Fatal(err)
			}
			l := openLease(t, disk)
			_, err := l.Acquire(t.Context(), host(1, 1), ex, unable{kind})
			wantKind(t, err, kind)
			if got := leaderAt(t, disk); got.Timestamp != 0 || l.Unsettled() {
				t.Errorf("the lease was not given back: %+v", got)
			}
		})
	}
}

// TestBackOff: the pause grows with what transfers take and with each time we were outbid, is never more than
// a second, and its length is a matter of chance.
func TestBackOff(t *testing.T) {
	tests := []struct {
		pace   time.Duration
		outbid int
		jitter float64
		want   time.Duration
	}{
		{0, 0, 0, time.Millisecond},
		{0, 0, 0.5, 4 * time.Millisecond},
		{0, 3, 0.5, 32 * time.Millisecond},
		{5 * time.Millisecond, 0, 0.25, 10 * time.Millisecond},
		{5 * time.Millisecond, 2, 0.25, 40 * time.Millisecond},
		{2 * time.Second, 0, 0.75, 750 * time.Millisecond},
		{10 * time.Second, 1000, 0.999, 999 * time.Millisecond},
	}
	for _, tc := range tests {
		l := &Lease{pace: tc.pace, cfg: Config{Jitter: func() float64 { return tc.jitter }}}
		v := &drive{l: l, outbid: tc.outbid}
		if got := v.backOff(); got != tc.want {
			t.Errorf("%+v: %v", tc, got)
		}
	}
}

// TestOutbidOnce: a host whose ballot is overtaken between its phases comes back and gets the lease.
func TestOutbidOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := formatted(t, small, 16)
		dev := disk.Open("1")
		defer dev.Close()
		writes := 0
		l := leaseOn(t, small, hooked{dev, func(op string, off int64, _ int) {
			if op == "write" {
				writes++
			}
			if op == "write" && off == small.BlockOffset(1) && writes == 2 {
				// Host 9 begins a ballot that is ahead, and dies.
				putBlock(disk, 9, ondisk.HostBlock{DBlock: ondisk.DBlock{MBal: 8009, LVer: 1}})
			}
		}})
		began := time.Now()
		g, err := l.Acquire(t.Context(), host(1, 1), ex, oracle{host(9, 1): leases.Dead})
		if err != nil || g.Version != 1 {
			t.Fatalf("%+v, %v", g, err)
		}
		if hb := blockAt(t, disk, 1); hb.MBal <= 8009 || hb.MBal%2000 != 1 {
			t.Errorf("ballot number %d", hb.MBal)
		}
		if waited := time.Since(began); waited == 0 || waited > time.Second {
			t.Errorf("waited %v before it came back", waited)
		}
	})
}

// again is the same host's lease when it is asked for the next time.
func again(t *testing.T, disk *memdisk.Disk, last *Lease) *Lease {
	t.Helper()
	d := disk.Open(t.Name())
	t.Cleanup(func() { d.Close() })
	cfg := last.cfg
	cfg.Disks, cfg.Memory = []Disk{{Device: d}}, last.Memory()
	l, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestOthersGoFirst is about courtesy, which no rule of safety asks for: a ballot under way on a free lease is let go
// first once, and who had a lease last lets others come before.
func TestOthersGoFirst(t *testing.T) {
	took := func(t *testing.T, l *Lease) time.Duration {
		began := time.Now()
		g := mustAcquire(t, l, host(1, 1), ex, oracle{})
		waited := time.Since(began)
		if err := l.Release(t.Context(), g, ""); err != nil {
			t.Fatal(err)
		}
		return waited
	}
	const ballot = ballotTransfers * time.Millisecond
	t.Run("a ballot that goes on", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			disk := formatted(t, small, 16)
			putBlock(disk, 2, ondisk.HostBlock{DBlock: ondisk.DBlock{MBal: 2, LVer: 1}})
			l := openLease(t, disk)
			time.AfterFunc(3500*time.Microsecond, func() {
				leader := leaderAt(t, disk)
				leader.LVer, leader.OwnerID, leader.OwnerGeneration, leader.Timestamp = 1, 2, 1, 500
				putLeader(disk, leader)
			})
			began := time.Now()
			_, err := l.Acquire(t.Context(), host(1, 1), ex, oracle{})
			wantKind(t, err, leases.Held)
			if got := time.Since(began); got != 4*time.Millisecond || blockAt(t, disk, 1) != (ondisk.HostBlock{}) {
				t.Errorf("after %v, block %+v", got, blockAt(t, disk, 1))
			}
		})
	})
	t.Run("a ballot that does not", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			disk := formatted(t, small, 16)
			rival := func(number, round uint64) {
				putBlock(disk, 2, ondisk.HostBlock{DBlock: ondisk.DBlock{MBal: number, LVer: round}})
			}
			rival(2, 1)
			l := openLease(t, disk)
			if got := took(t, l); got != ballot {
				t.Errorf("waited %v, want %v", got, ballot)
			}
			rival(2, 2)
			l = again(t, disk, l)
			took(t, l) // perhaps for the sake of who comes after us
			rival(2, 3)
			l = again(t, disk, l)
			if got := took(t, l); got != 0 {
				t.Errorf("waited %v for a ballot that was let go first before", got)
			}
		})
	})
	t.Run("had it last", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			disk, l2, g2 := ownedByTwo(t)
			l := openLease(t, disk)
			_, err := l.Acquire(t.Context(), host(1, 1), ex, oracle{})
			wantKind(t, err, leases.Held)
			if err := l2.Release(t.Context(), g2, ""); err != nil {
				t.Fatal(err)
			}
			for i, want := range []time.Duration{0, ballot, 0, 0} {
				l = again(t, disk, l)
				if got := took(t, l); got != want {
					t.Errorf("acquire %d waited %v, want %v", i+1, got, want)
				}
			}
		})
	})
}
