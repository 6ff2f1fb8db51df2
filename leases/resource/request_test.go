package resource

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device/faulty"
	"github.com/tenurelock/tenure/leases/ondisk"
	"github.com/tenurelock/tenure/leases/timeouts"
)

// TestRequests: who is told, and which requests are refused.
func TestRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := formatted(t, small, 8)
		before := disk.Bytes(0, small.Align)
		asker := openLease(t, disk)
		if to, err := asker.PutRequest(t.Context(), 7, 1, false); err != nil || to != (leases.Owner{}) {
			t.Errorf("of a free lease: %v, %v", to, err)
		}
		if !bytes.Equal(before, disk.Bytes(0, small.Align)) {
			t.Error("a request for a free lease was written")
		}
		owner := openLease(t, disk)
		for range 2 {
			if err := owner.Release(t.Context(), mustAcquire(t, owner, host(5, 2), ex, oracle{}), ""); err != nil {
				t.Fatal(err)
			}
		}
		mustAcquire(t, owner, host(5, 2), ex, oracle{}) // version 3
		for _, c := range []struct {
			lver uint64
			mode uint32
			next bool
			want leases.Kind // 0: accepted
			left uint64
		}{
			{3, 1, false, leases.RequestOld, 0},
			{2, 1, false, leases.RequestOld, 0},
			{0, 2, true, 0, 4},
			{9, 1, false, 0, 9},
			{8, 1, false, leases.RequestHigher, 9},
			{0, 1, true, leases.RequestHigher, 9},
			{9, 2, false, 0, 9},
			{0, 0, false, 0, 0},
			{4, 1, true, 0, 4},
		} {
			to, err := asker.PutRequest(t.Context(), c.lver, c.mode, c.next)
			told := host(5, 2)
			if c.mode == 0 {
				told = leases.Owner{}
			}
			if c.want != 0 {
				wantKind(t, err, c.want)
			} else if err != nil || to != told {
				t.Errorf("%+v: to %v, %v", c, to, err)
			}
			if r, err := owner.TakeRequest(t.Context()); err != nil || r.LVer != c.left {
				t.Errorf("%+v: the owner finds version %d, %v", c, r.LVer, err)
			}
		}
	})
}

// TestRequestThatCannotBe: a record that does not verify, and transfers that fail, are told and nothing is
// sent.
func TestRequestThatCannotBe(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(sector []byte)
		want  leases.Kind
	}{
		{"magic", func(p []byte) { p[0]++ }, leases.RequestMagic},
		{"major version", func(p []byte) { p[6]++ }, leases.RequestVersion},
	} {
		synctest.Test(t, func(t *testing.T) {
			disk := formatted(t, small, 8)
			mustAcquire(t, openLease(t, disk), host(5, 2), ex, oracle{})
			sector := disk.Bytes(int64(small.Sector), small.Sector)
			c.spoil(sector)
			disk.Poke(int64(small.Sector), sector)
			l := openLease(t, disk)
			to, err := l.PutRequest(t.Context(), 9, 1, false)
			wantKind(t, err, c.want)
			_, err = l.TakeRequest(t.Context())
			wantKind(t, err, c.want)
			if to != (leases.Owner{}) || !bytes.Equal(sector, disk.Bytes(int64(small.Sector), small.Sector)) {
				t.Errorf("%s: to %v, or the record was written", c.name, to)
			}
		})
	}
	for n, at := range []string{"leader", "record", "write"} {
		synctest.Test(t, func(t *testing.T) {
			disk := formatted(t, small, 8)
			mustAcquire(t, openLease(t, disk), host(5, 2), ex, oracle{})
			dev := faulty.Wrap(disk.Open("1"), faulty.OnIndex(n, faulty.Fail(errBroken)))
			defer dev.Close()
			to, err := leaseOn(t, small, dev).PutRequest(t.Context(), 9, 1, false)
			wantKind(t, err, leases.IO)
			if to != (leases.Owner{}) {
				t.Errorf("%s failed, and %v is to be told", at, to)
			}
		})
	}
}

// TestInspect reads a leader of which nothing is known, and says which check failed.
func TestInspect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, g := range ondisk.Geometries() {
			disk := formatted(t, g, 0)
			dev := faulty.Wrap(disk.Open("1"))
			defer dev.Close()
			look := func(space, name leases.Name) (ondisk.Leader, error) {
				times := timeouts.Set{IO: 2, Fire: 60}
				return Inspect(t.Context(), Disk{Device: dev}, space, name, times)
			}
			leader, err := look(leases.Name{}, leases.Name{})
			if err != nil || leader.ResourceName != testName || leader.Geometry() != g {
				t.Errorf("%v: %+v, %v", g, leader, err)
			}
			_, err = look(leases.NameOf("LS2"), leases.Name{})
			wantKind(t, err, leases.WrongSpace)
			_, err = look(testSpace, leases.NameOf("RES2"))
			wantKind(t, err, leases.WrongResource)
			dev.Add(faulty.On(faulty.Read, faulty.Late(time.Minute)).Times(1))
			_, err = look(testSpace, testName)
			wantKind(t, err, leases.Timeout)
			disk.Poke(0, make([]byte, g.Sector))
			_, err = look(testSpace, testName)
			wantKind(t, err, leases.BadMagic)
		}
	})
}

// TestRefusedBeforeTheDisk: what cannot work is refused without a transfer.
func TestRefusedBeforeTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := formatted(t, small, 8)
		dev := faulty.Wrap(disk.Open("1"))
		defer dev.Close()
		l := leaseOn(t, small, dev)
		for _, self := range []leases.Owner{{}, host(0, 1), host(1, 0)} {
			_, err := l.Acquire(t.Context(), self, ex, oracle{})
			wantKind(t, err, leases.Invalid)
		}
		if dev.Reads()+dev.Writes() != 0 {
			t.Errorf("transfers: %v", dev.Ops())
		}
		g := mustAcquire(t, l, host(1, 1), ex, oracle{})
		dev.Forget()
		wantKind(t, l.Convert(t.Context(), g, leases.Exclusive, false, oracle{}), leases.Already)
		wantKind(t, g.SetLVB([]byte("x")), leases.Invalid)
		if v := g.LVB(); v != nil || dev.Reads()+dev.Writes() != 0 {
			t.Errorf("value %q, transfers %v", v, dev.Ops())
		}
	})
}

// TestUnsettledIsRefused: while a write of a failed release hangs, the lease is not to be had on this host by
// any way, and is once the write has ended.
func TestUnsettledIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := formatted(t, small, 8)
		dev := faulty.Wrap(disk.Open("1"))
		defer dev.Close()
		l := leaseOn(t, small, dev)
		g := mustAcquire(t, l, host(1, 1), ex, oracle{})
		gate := faulty.NewGate()
		dev.Add(faulty.On(faulty.Write, faulty.Stall(gate)).Times(1))
		wantKind(t, l.Release(t.Context(), g, ""), leases.Timeout)
		_, err := l.Acquire(t.Context(), host(1, 1), ex, oracle{})
		wantKind(t, err, leases.Again)
		wantKind(t, l.Convert(t.Context(), g, leases.Shared, false, oracle{}), leases.Again)
		wantKind(t, l.Release(t.Context(), g, ""), leases.Again)
		wantKind(t, l.Settle(t.Context()), leases.Timeout)
		_, err = openLease(t, disk).Acquire(t.Context(), host(2, 1), ex, oracle{})
		wantKind(t, err, leases.Held)
		gate.Release()
		settle(t, "after the write", l)
		mustAcquire(t, openLease(t, disk), host(2, 1), ex, oracle{})
	})
}
