package resource

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device"
	"github.com/tenurelock/tenure/leases/device/faulty"
	"github.com/tenurelock/tenure/leases/device/memdisk"
)

// operation is one thing a host can do to a lease, from a state that prepare makes without faults. It returns
// what the host believes to hold afterwards, nil for nothing.
type operation struct {
	name    string
	prepare func(t *testing.T, l *Lease) *Grant
	run     func(ctx context.Context, l *Lease, g *Grant) (*Grant, error)
}

func held(mode leases.Mode) func(*testing.T, *Lease) *Grant {
	return func(t *testing.T, l *Lease) *Grant {
		t.Helper()
		g, err := l.Acquire(t.Context(), host(1, 1), Request{Mode: mode, LVB: true}, oracle{})
		if err != nil {
			t.Fatal(err)
		}
		if err := g.SetLVB([]byte("x")); err != nil {
			t.Fatal(err)
		}
		return g
	}
}

func nothing(*testing.T, *Lease) *Grant { return nil }

func acquireAs(mode leases.Mode) func(context.Context, *Lease, *Grant) (*Grant, error) {
	return func(ctx context.Context, l *Lease, _ *Grant) (*Grant, error) {
		return l.Acquire(ctx, host(1, 1), Request{Mode: mode, LVB: true}, oracle{})
	}
}

func release(ctx context.Context, l *Lease, g *Grant) (*Grant, error) {
	return nil, l.Release(ctx, g, "")
}

func convertTo(mode leases.Mode) func(context.Context, *Lease, *Grant) (*Grant, error) {
	return func(ctx context.Context, l *Lease, g *Grant) (*Grant, error) {
		return g, l.Convert(ctx, g, mode, false, oracle{})
	}
}

var operations = []operation{
	{"acquire exclusive", nothing, acquireAs(leases.Exclusive)},
	{"acquire shared", nothing, acquireAs(leases.Shared)},
	{"release exclusive", held(leases.Exclusive), release},
	{"release shared", held(leases.Shared), release},
	{"convert to exclusive", held(leases.Shared), convertTo(leases.Exclusive)},
	{"convert to shared", held(leases.Exclusive), convertTo(leases.Shared)},
}

// fault makes an action and the way to end it.
type fault struct {
	name string
	make func() (faulty.Action, func())
}

var errBroken = errors.New("broken on purpose")

var faultKinds = []fault{
	{"fails", func() (faulty.Action, func()) { return faulty.Fail(errBroken), func() {} }},
	{"happens but fails", func() (faulty.Action, func()) {
		return faulty.FailAfterWriting(errBroken), func() {}
	}},
	{"tears", func() (faulty.Action, func()) { return faulty.Tear(0, errBroken), func() {} }},
	{"happens late", func() (faulty.Action, func()) { return faulty.Late(3 * time.Second), func() {} }},
	{"answers late", func() (faulty.Action, func()) { return faulty.LateAnswer(3 * time.Second), func() {} }},
	{"happens very late", func() (faulty.Action, func()) {
		g := faulty.NewGate()
		return faulty.Stall(g), g.Release
	}},
	{"never happens", func() (faulty.Action, func()) {
		g := faulty.NewGate()
		return faulty.Stall(g), func() { g.Drop(errBroken) }
	}},
}

// TestEveryTransferFails breaks each transfer of each operation in each way. Two hosts never believe to own
// the lease; each fault is told; and once the host has settled, the lease can be had by others.
func TestEveryTransferFails(t *testing.T) {
	for _, op := range operations {
		for _, f := range faultKinds {
			t.Run(op.name+", transfer "+f.name, func(t *testing.T) {
				n := 0
				for fired := true; fired; n++ {
					synctest.Test(t, func(t *testing.T) { fired = breakTransfer(t, op, f, n) })
				}
				if n < 2 {
					t.Errorf("the operation has no transfers: the test is broken")
				}
			})
		}
	}
}

// breakTransfer runs op with its n-th transfer broken and reports whether there was one.
func breakTransfer(t *testing.T, op operation, f fault, n int) bool {
	disk := formatted(t, small, 8)
	dev := faulty.Wrap(disk.Open("1"))
	defer dev.Close()
	l := leaseOn(t, small, dev)
	g := op.prepare(t, l)
	action, end := f.make()
	rule := faulty.OnIndex(n, action)
	dev.Add(rule)
	mine, err := op.run(t.Context(), l, g)
	where := fmt.Sprintf("transfer %d (%v)", n, rule.Last())
	if rule.Fired() == 0 {
		end()
		if err != nil {
			t.Errorf("without a fault: %v", err)
		}
		return false
	}
	if err == nil {
		t.Errorf("%s %s and nobody was told", where, f.name)
	}
	checkNamed(t, where, err)
	theirs := challenge(t, where, disk, mine, 2)
	end()
	settle(t, where, l)
	// A write that landed late, and the withdrawal, must not have taken away what host 2 was given.
	if third := challenge(t, where, disk, nil, 3); third != nil && theirs != nil {
		t.Errorf("%s: host 3 owns the lease while host 2 does", where)
	}
	if mine == nil && theirs == nil {
		if again := challenge(t, where, disk, nil, 4); again == nil && !ownedBy(t, disk, 3) {
			t.Errorf("%s: the lease cannot be had although nobody holds it", where)
		}
	}
	return true
}

// checkNamed insists that a fault comes as an error that says what and of which kind.
func checkNamed(t *testing.T, where string, err error) {
	t.Helper()
	var e *leases.Error
	if err != nil && (!errors.As(err, &e) || e.Kind == leases.Other) {
		t.Errorf("%s: error without a kind: %v", where, err)
	}
}

// challenge lets another host, to which host 1 looks alive, ask for the lease exclusively. It must not get it
// while mine is held.
func challenge(t *testing.T, where string, disk *memdisk.Disk, mine *Grant, id leases.HostID) *Grant {
	t.Helper()
	dev := disk.Open(fmt.Sprint(id))
	defer dev.Close()
	l := leaseOn(t, small, dev)
	g, err := l.Acquire(t.Context(), host(id, 1), Request{Mode: leases.Exclusive}, oracle{})
	if err != nil {
		return nil
	}
	if mine != nil {
		t.Errorf("%s: host %d owns the lease while host 1 holds it %v", where, id, mine.Mode)
	}
	return g
}

func settle(t *testing.T, where string, l *Lease) {
	t.Helper()
	for range 5 {
		time.Sleep(10 * time.Second)
		if l.Settle(t.Context()) == nil {
			break
		}
	}
	if l.Unsettled() {
		t.Errorf("%s: still unsettled although the storage works", where)
	}
}

// ownedBy reports whether the leader names a host.
func ownedBy(t *testing.T, disk *memdisk.Disk, id uint64) bool {
	t.Helper()
	dev := disk.Open("inspector")
	defer dev.Close()
	_, owners, err := leaseOn(t, small, dev).Owners(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range owners {
		if uint64(o.Host) == id {
			return true
		}
	}
	return false
}

// TestBudget counts transfers and bytes (spec io-cost 1): at most three reads and three writes to acquire,
// one read and two writes to release; a read covers leader, request and the blocks of num_hosts hosts.
func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := formatted(t, small, 16)
		dev := faulty.Wrap(disk.Open("1"))
		defer dev.Close()
		l := leaseOn(t, small, dev)
		for round := range 5 {
			dev.Forget()
			g, err := l.Acquire(t.Context(), host(1, 1), Request{Mode: leases.Exclusive}, oracle{})
			if err != nil {
				t.Fatal(err)
			}
			if r, w := dev.Reads(), dev.Writes(); r > 3 || w > 3 {
				t.Errorf("acquire %d: %d reads and %d writes, want at most 3 and 3", round, r, w)
			}
			for i, op := range dev.Ops() {
				want := small.BallotLength(16)
				if round > 1 && i == 0 {
					want = small.BallotLength(1) // found as it was left twice: no further than our own block
				}
				if op.Kind == faulty.Read && op.Len != want && round > 0 {
					t.Errorf("acquire %d: read of %d bytes, want %d", round, op.Len, want)
				}
				if op.Kind == faulty.Write && op.Len != 512 {
					t.Errorf("acquire %d: write of %d bytes", round, op.Len)
				}
			}
			dev.Forget()
			if err := l.Release(t.Context(), g, ""); err != nil {
				t.Fatal(err)
			}
			if r, w := dev.Reads(), dev.Writes(); r > 1 || w > 2 {
				t.Errorf("release %d: %d reads and %d writes, want at most 1 and 2", round, r, w)
			}
		}
	})
}

// TestGlanceIsNotFooled: after cheap first looks another host takes and returns the lease, or dies with it,
// or rests in the middle of a ballot; the next acquire sees it.
func TestGlanceIsNotFooled(t *testing.T) {
	for _, meanwhile := range []string{"nothing", "taken and returned", "held", "ballot begun"} {
		synctest.Test(t, func(t *testing.T) {
			disk := formatted(t, small, 16)
			d1, d2 := faulty.Wrap(disk.Open("1")), faulty.Wrap(disk.Open("2"))
			defer d1.Close()
			defer d2.Close()
			l1, l2 := leaseOn(t, small, d1), leaseOn(t, small, d2)
			ex := Request{Mode: leases.Exclusive}
			cycle := func(l *Lease, o leases.Owner) *Grant {
				t.Helper()
				g, err := l.Acquire(t.Context(), o, ex, oracle{})
				if err != nil {
					t.Fatal(meanwhile, err)
				}
				return g
			}
			for range 4 {
				if err := l1.Release(t.Context(), cycle(l1, host(1, 1)), ""); err != nil {
					t.Fatal(err)
				}
			}
			want := uint64(5)
			switch meanwhile {
			case "taken and returned":
				if err := l2.Release(t.Context(), cycle(l2, host(2, 1)), ""); err != nil {
					t.Fatal(err)
				}
				want = 6
			case "held":
				cycle(l2, host(2, 1))
				_, err := l1.Acquire(t.Context(), host(1, 1), ex, oracle{})
				wantKind(t, err, leases.Held)
				return
			case "ballot begun":
				d2.Add(faulty.On(faulty.Any, faulty.Fail(errBroken)).From(3))
				_, err := l2.Acquire(t.Context(), host(2, 1), ex, oracle{})
				wantKind(t, err, leases.BlockWrite)
			}
			if got := cycle(l1, host(1, 1)).Version; got != want {
				t.Errorf("%s: version %d, want %d", meanwhile, got, want)
			}
		})
	}
}

// TestOneDiskOfThreeBreaks: a lease on three disks is taken, shared, converted and released while one of them
// fails or hangs, and not while two do.
func TestOneDiskOfThreeBreaks(t *testing.T) {
	for broken := range 3 {
		for _, hang := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				var devs []device.Device
				gate := faulty.NewGate()
				for d := range 3 {
					dev := faulty.Wrap(formatted(t, small, 8).Open("1"))
					defer dev.Close()
					if d < broken && hang {
						dev.Add(faulty.On(faulty.Any, faulty.Stall(gate)))
					} else if d < broken {
						dev.Add(faulty.On(faulty.Any, faulty.Fail(errBroken)))
					}
					devs = append(devs, dev)
				}
				// The first disk is where shared marks are judged; break from the other end.
				devs[0], devs[2] = devs[2], devs[0]
				l := leaseOn(t, small, devs...)
				g, err := l.Acquire(t.Context(), host(1, 1), Request{Mode: leases.Exclusive}, oracle{})
				if (err == nil) != (broken < 2) {
					t.Fatalf("%d of 3 broken, hang %v: %v", broken, hang, err)
				}
				if err == nil {
					if err := l.Convert(t.Context(), g, leases.Shared, false, oracle{}); err != nil {
						t.Error(err)
					}
					if err := l.Convert(t.Context(), g, leases.Exclusive, false, oracle{}); err != nil {
						t.Error(err)
					}
					if err := l.Release(t.Context(), g, ""); err != nil {
						t.Error(err)
					}
				}
				gate.Release()
			})
		}
	}
}
