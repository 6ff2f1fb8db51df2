package native

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/tenurelock/tenure/daemon/lvmlock"
	"github.com/tenurelock/tenure/daemon/lvmwire"
	"github.com/tenurelock/tenure/daemon/sanlockwire"
)

// TestLockResults: what each answer of the daemon means for who wanted a lock (spec lvmlockd 4.10).
func TestLockResults(t *testing.T) {
	t.Parallel()
	adopt, only := lvmlock.LockOptions{Adopt: true}, lvmlock.LockOptions{AdoptOnly: true}
	none := lvmlock.LockOptions{}
	for _, c := range []struct {
		number int32
		o      lvmlock.LockOptions
		want   lvmwire.Result
		soon   bool // SH may be retried
	}{
		{-243, none, lvmwire.Again, true},
		{-244, none, lvmwire.Again, true},
		{-245, none, lvmwire.Again, true},
		{-246, none, lvmwire.Again, true},
		{-11, none, lvmwire.Again, true},
		{-285, none, lvmwire.Again, true},
		{-247, none, lvmwire.Again, true},
		{-249, none, lvmwire.Again, false},
		{-212, none, lvmwire.Again, false},
		{-213, none, lvmwire.Again, false},
		{-202, none, lvmwire.IOTimeout, false},
		{-90, none, lvmwire.TooLong, false},
		{-117, none, lvmwire.Orphan, false},
		{-117, adopt, lvmwire.AdoptRetry, false},
		{-117, only, lvmwire.AdoptRetry, false},
		{-2, only, lvmwire.AdoptNone, false},
		{-2, none, lvmwire.ManagerError, false},
		{-5, none, lvmwire.LockIO, false},
		{-220, none, lvmwire.LockIO, false},
		{-221, none, lvmwire.LockIO, false},
		{-210, none, lvmwire.LockIO, false},
		{-211, none, lvmwire.LockIO, false},
		{-28, none, lvmwire.LockIO, false},
		{-223, none, lvmwire.RepairNeeded, false},
		{-224, none, lvmwire.RepairNeeded, false},
		{-222, none, lvmwire.RepairNeeded, false},
		{-226, none, lvmwire.RepairNeeded, false},
		{-227, none, lvmwire.RepairNeeded, false},
		{-229, none, lvmwire.RepairNeeded, false},
		{-214, none, lvmwire.RepairNeeded, false},
		{-281, none, lvmwire.RepairNeeded, false},
		{-225, none, lvmwire.ManagerError, false},
		{-228, none, lvmwire.ManagerError, false},
		{-240, none, lvmwire.ManagerError, false},
		{-16, none, lvmwire.ManagerError, false},
		{-22, none, lvmwire.ManagerError, false},
		{-9999, none, lvmwire.ManagerError, false},
	} {
		err := fmt.Errorf("acquire: %w", sanlockwire.ErrorOf(c.number))
		for _, m := range []lvmwire.Mode{lvmwire.SH, lvmwire.EX} {
			e := lockError("lock", "lv", lvmlock.Resource{Kind: lvmwire.LV}, m, c.o, err)
			if e.Result != c.want || e.Retry != (c.soon && m == lvmwire.SH) {
				t.Errorf("%d for an LV in mode %d: %d, retry %t; want %d", c.number, m, e.Result, e.Retry, c.want)
			}
		}
		e := lockError("lock", "gl", lvmlock.Resource{Kind: lvmwire.GL}, lvmwire.SH, c.o, err)
		if c.o == none && e.Result != lvmwire.Again && e.Result != lvmwire.LockIO {
			t.Errorf("%d for the global lock in SH: %d, with which commands of 2.03.16 give up", c.number, e.Result)
		}
		if c.o != none && e.Result != c.want {
			t.Errorf("%d for the adopted global lock: %d, want %d", c.number, e.Result, c.want)
		}
	}
}

// TestDiskResults: none of sanlock's own numbers gets to a client, where it would mean something else.
func TestDiskResults(t *testing.T) {
	t.Parallel()
	want := map[int32]lvmwire.Result{
		-5: lvmwire.LockIO, -202: lvmwire.LockIO, -210: lvmwire.LockIO, -211: lvmwire.LockIO, -220: lvmwire.LockIO,
		-221: lvmwire.LockIO, -28: lvmwire.LockIO, -19: lvmwire.DeviceOpen, -13: lvmwire.DeviceOpen,
		-2: lvmwire.BadArgs, -230: lvmwire.BadArgs, -231: lvmwire.BadHostID, -262: lvmwire.BadHostID,
		-90: lvmwire.TooLong, -17: lvmwire.Exists, -223: lvmwire.RepairNeeded, -224: lvmwire.RepairNeeded,
		-226: lvmwire.RepairNeeded, -227: lvmwire.RepairNeeded, -229: lvmwire.RepairNeeded, -222: lvmwire.RepairNeeded,
		-214: lvmwire.RepairNeeded, -281: lvmwire.RepairNeeded,
	}
	for number := int32(-300); number < 0; number++ {
		w, ok := want[number]
		if !ok {
			w = lvmwire.ManagerError
		}
		if e := diskError("init", "vg", fmt.Errorf("x: %w", sanlockwire.ErrorOf(number))); e.Result != w {
			t.Errorf("%d: %d, want %d", number, e.Result, w)
		}
	}
	for _, err := range []error{
		&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, syscall.ENOENT,
	} {
		if e := diskError("init", "vg", err); e.Result != lvmwire.NoManager || !errors.Is(e, err) {
			t.Errorf("%v: %d", err, e.Result)
		}
	}
}

// TestValueBlock: 8 bytes, as Debian's lvmlockd writes them, and none that a later one may write otherwise.
func TestValueBlock(t *testing.T) {
	t.Parallel()
	v := lvmlock.Value{Version: 0x04030201, Removed: true, Set: true}
	p := appendValue(nil, v)
	if got := fmt.Sprintf("%x", p); got != "0101010001020304" {
		t.Errorf("written: %s", got)
	}
	if got, err := parseValue(append(p, 1, 2, 3)); got != v || err != nil {
		t.Errorf("read: %+v, %v", got, err)
	}
	for _, p := range [][]byte{nil, make([]byte, 7), make([]byte, 512)} {
		if got, err := parseValue(p); got != (lvmlock.Value{}) || err != nil {
			t.Errorf("%d bytes that were never written: %+v, %v", len(p), got, err)
		}
	}
	if got, err := parseValue([]byte{9, 1, 0, 0, 7, 0, 0, 0}); got.Version != 7 || err != nil {
		t.Errorf("a later minor version: %+v, %v", got, err)
	}
	if got, err := parseValue([]byte{0, 2, 0, 0, 7, 0, 0, 0}); err == nil {
		t.Errorf("a later major version: %+v", got)
	}
}
