package native

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/tenurelock/tenure/daemon/lvmlock"
	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// TestRepair: a lease that is none any more is refused as such, and written anew if the user says so, unless that would
// take the lease of another LV.
func TestRepair(t *testing.T) {
	t.Parallel()
	for _, k := range kinds {
		t.Run(string(k), func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			dir := disks(t, 80*mib, "vg")
			h := start(t, k, 1, dir)
			h.format(t, "vg", true)
			s := h.join(t, "vg")
			for i := range 3 {
				h.initLV(t, s, i, 67+int64(i))
			}
			if err := s.FreeLV(ctx, lvAt(2, 69)); err != nil { // and the metadata was not committed
				t.Fatal(err)
			}
			f, err := os.OpenFile(filepath.Join(dir, "vg-lvmlock"), os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			for _, slot := range []int64{groupSlot, 67} {
				if _, err := f.WriteAt(make([]byte, 512), slot*mib); err != nil {
					t.Fatal(err)
				}
			}
			repair := lvmlock.LockOptions{Repair: true}
			for _, r := range []lvmlock.Resource{groupLock, lvAt(0, 67), lvAt(2, 69)} {
				_, err := s.Lock(ctx, r, lvmwire.EX, lvmlock.LockOptions{})
				wantResult(t, "not repaired "+r.Name, err, lvmwire.RepairNeeded)
				if _, err := s.Lock(ctx, r, lvmwire.EX, repair); err != nil {
					t.Errorf("repair %s: %v", r.Name, err)
				}
			}
			_, err = s.Lock(ctx, lvAt(9, 68), lvmwire.EX, repair)
			wantResult(t, "the lease of another LV", err, lvmwire.RepairNeeded)
			if _, err := s.Lock(ctx, lvAt(1, 68), lvmwire.EX, lvmlock.LockOptions{}); err != nil {
				t.Errorf("the other LV: %v", err)
			}
			if err := s.SetGlobal(ctx, false); err != nil {
				t.Fatal(err)
			}
			_, err = s.Lock(ctx, globalLock, lvmwire.EX, repair)
			wantResult(t, "repair of what is only disabled", err, lvmwire.Unattached)
			for _, r := range []lvmlock.Resource{{Kind: lvmwire.LV, Name: uuid(1), Args: "1.0.0:1"}, {Name: "x"}} {
				_, err = s.Lock(ctx, r, lvmwire.EX, lvmlock.LockOptions{})
				wantResult(t, "args "+r.Args, err, lvmwire.BadArgs)
			}
		})
	}
}

// TestFutureValue: a value block that we do not understand is no lock.
func TestFutureValue(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	h := start(t, tenure, 1, disks(t, 80*mib, "vg"))
	h.format(t, "vg", true)
	s := h.join(t, "vg")
	mustLock(t, s, groupLock, lvmwire.EX)
	l, err := s.lease(groupLock, lvmwire.EX)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.hold.SetLVB(ctx, l, []byte{0, 2, 0, 0, 1, 0, 0, 0}); err != nil {
		t.Fatal(err)
	}
	mustUnlock(t, s, groupLock, lvmwire.EX, nil)
	for range 2 { // the lease is not left behind
		_, err = s.Lock(ctx, groupLock, lvmwire.EX, lvmlock.LockOptions{})
		wantResult(t, "a value of a later version", err, lvmwire.BadRequest)
	}
}
