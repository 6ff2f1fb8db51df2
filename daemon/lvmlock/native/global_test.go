package native

import (
	"testing"

	"github.com/tenurelock/tenure/daemon/lvmlock"
	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// TestGlobal: the global lock is where it is enabled, on all hosts, and is not taken from one that holds it.
func TestGlobal(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	a, b, ha, hb := twoHosts(t, "vg")
	enabled := func(s *space, want bool) {
		t.Helper()
		if got, err := s.GlobalEnabled(ctx); got != want || err != nil {
			t.Errorf("host %d: enabled %t, %v; want %t", s.vg.HostID, got, err, want)
		}
	}
	enabled(a, true)
	enabled(b, true)
	for _, c := range []struct{ mine, other *space }{{a, b}, {b, a}} {
		for _, m := range []lvmwire.Mode{lvmwire.EX, lvmwire.SH} {
			mustLock(t, c.other, globalLock, m)
			e := wantResult(t, "disable what another host holds", c.mine.SetGlobal(ctx, false), lvmwire.Again)
			if e.Owner.HostID != c.other.vg.HostID {
				t.Errorf("owner %+v", e.Owner)
			}
			enabled(c.mine, true)
			mustUnlock(t, c.other, globalLock, m, nil)
		}
		if err := c.mine.SetGlobal(ctx, false); err != nil {
			t.Fatal(err)
		}
		if err := c.mine.SetGlobal(ctx, false); err != nil {
			t.Errorf("disable again: %v", err)
		}
		enabled(c.other, false)
		for _, s := range []*space{c.mine, c.other} {
			_, err := s.Lock(ctx, globalLock, lvmwire.EX, lvmlock.LockOptions{})
			wantResult(t, "lock what is disabled", err, lvmwire.Unattached)
			_, err = s.Lock(ctx, globalLock, lvmwire.SH, lvmlock.LockOptions{})
			wantResult(t, "lock what is disabled", err, lvmwire.Unattached)
		}
		if err := c.mine.SetGlobal(ctx, true); err != nil {
			t.Fatal(err)
		}
		mustLock(t, c.other, globalLock, lvmwire.EX)
		mustUnlock(t, c.other, globalLock, lvmwire.EX, nil)
	}
	if names, err := ha.Lockspaces(ctx); err != nil || len(names) != 1 {
		t.Errorf("lockspaces %q, %v", names, err)
	}
	if names, err := hb.Lockspaces(ctx); err != nil || len(names) != 1 {
		t.Errorf("lockspaces %q, %v", names, err)
	}
}
