package resource

import (
	"testing"
	"testing/synctest"

	"github.com/tenurelock/tenure/leases"
)

func TestExclusiveGoesFromHostToHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := formatted(t, small, 0)
		da, db := disk.Open("a"), disk.Open("b")
		defer da.Close()
		defer db.Close()
		a, b := leaseOn(t, small, da), leaseOn(t, small, db)
		ctx := t.Context()
		ga, err := a.Acquire(ctx, host(1, 1), ex, oracle{})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := ga.Version, uint64(1); got != want {
			t.Errorf("version %d, want %d", got, want)
		}
		_, err = b.Acquire(ctx, host(2, 1), ex, oracle{})
		wantKind(t, err, leases.Held)
		if err := a.Release(ctx, ga, ""); err != nil {
			t.Fatal(err)
		}
		gb, err := b.Acquire(ctx, host(2, 1), ex, oracle{})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := gb.Version, uint64(2); got != want {
			t.Errorf("version %d, want %d", got, want)
		}
		// The host dies; another takes what it held.
		ga, err = a.Acquire(ctx, host(1, 1), ex, oracle{host(2, 1): leases.Dead})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := ga.Version, uint64(3); got != want {
			t.Errorf("version %d, want %d", got, want)
		}
	})
}

func TestSharedAndConvert(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := formatted(t, small, 8)
		da, db := disk.Open("a"), disk.Open("b")
		defer da.Close()
		defer db.Close()
		a, b := leaseOn(t, small, da), leaseOn(t, small, db)
		ctx := t.Context()
		ga, err := a.Acquire(ctx, host(1, 1), sh, oracle{})
		if err != nil {
			t.Fatal(err)
		}
		gb, err := b.Acquire(ctx, host(2, 1), sh, oracle{})
		if err != nil {
			t.Fatal(err)
		}
		wantKind(t, a.Convert(ctx, ga, leases.Exclusive, false, oracle{}), leases.SharedHeld)
		if ga.Mode != leases.Shared || a.Unsettled() {
			t.Errorf("after a refused convert: mode %v, unsettled %v", ga.Mode, a.Unsettled())
		}
		if err := b.Release(ctx, gb, ""); err != nil {
			t.Fatal(err)
		}
		if err := a.Convert(ctx, ga, leases.Exclusive, false, oracle{}); err != nil {
			t.Fatal(err)
		}
		_, err = b.Acquire(ctx, host(2, 1), sh, oracle{})
		wantKind(t, err, leases.Held)
		if err := a.Convert(ctx, ga, leases.Shared, false, oracle{}); err != nil {
			t.Fatal(err)
		}
		if gb, err = b.Acquire(ctx, host(2, 1), sh, oracle{}); err != nil {
			t.Fatal(err)
		}
		// Host 1 dies while sharing: the lease can be had exclusively, and its block stays its own.
		before := blockAt(t, disk, 1)
		if err := b.Convert(ctx, gb, leases.Exclusive, false, oracle{host(1, 1): leases.Dead}); err != nil {
			t.Fatal(err)
		}
		if after := blockAt(t, disk, 1); after != before || !after.Shared() {
			t.Errorf("block of the dead sharer was %+v, is %+v", before, after)
		}
		if err := b.Release(ctx, gb, ""); err != nil {
			t.Fatal(err)
		}
	})
}

func TestValueBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := formatted(t, small, 8)
		d := disk.Open("a")
		defer d.Close()
		l := leaseOn(t, small, d)
		ctx := t.Context()
		req := Request{Mode: leases.Exclusive, LVB: true}
		g, err := l.Acquire(ctx, host(1, 1), req, oracle{})
		if err != nil {
			t.Fatal(err)
		}
		if err := g.SetLVB([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		wantKind(t, g.SetLVB(make([]byte, 513)), leases.TooBig)
		if err := l.Release(ctx, g, ""); err != nil {
			t.Fatal(err)
		}
		if g, err = l.Acquire(ctx, host(1, 1), req, oracle{}); err != nil {
			t.Fatal(err)
		}
		if got, want := string(g.LVB()[:5]), "hello"; got != want {
			t.Errorf("value %q, want %q", got, want)
		}
	})
}
