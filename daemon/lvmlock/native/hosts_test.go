package native

import (
	"sync"
	"testing"
	"time"

	"github.com/tenurelock/tenure/daemon/lvmlock"
	"github.com/tenurelock/tenure/daemon/lvmwire"
	"github.com/tenurelock/tenure/leases"
)

// TestHosts: another host counts from the moment that we join, whatever was seen of it, until it has left; one that
// falls silent counts until it is dead.
func TestHosts(t *testing.T) {
	t.Parallel()
	for _, k := range kinds {
		t.Run(string(k), func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			dir := disks(t, 70*mib, "vg")
			a, b := start(t, k, 1, dir), start(t, tenure, 2, dir)
			a.format(t, "vg", true)
			sb := b.join(t, "vg")
			sa := a.join(t, "vg")
			if others, unsure, err := sa.Hosts(ctx); others != 1 || !unsure || err != nil {
				t.Errorf("just joined: %d others, unsure %t, %v", others, unsure, err)
			}
			meet(t, sa)
			o, err := sa.Status(ctx)
			if err != nil || o.HostID != 1 || o.Generation != 1 || o.State != "LIVE" || o.Timestamp == 0 {
				t.Errorf("our own status: %+v, %v", o, err)
			}
			if err := sb.Leave(ctx, false); err != nil {
				t.Fatal(err)
			}
			alone(t, sa)
			sb = b.join(t, "vg")
			meet(t, sa)
			meet(t, sb)
			lv := lvAt(1, 67)
			b.initLV(t, sb, 1, 67)
			mustLock(t, sb, lv, lvmwire.SH)
			b.kill()
			silent(t, sa, 2)
			if others, unsure, err := sa.Hosts(ctx); others != 1 || unsure || err != nil {
				t.Errorf("silent: %d others, unsure %t, %v", others, unsure, err)
			}
			_, err = sa.Lock(ctx, lv, lvmwire.EX, lvmlock.LockOptions{})
			e := wantResult(t, "what a silent host has", err, lvmwire.Again)
			want := lvmwire.Owner{HostID: 2, Generation: 2, Timestamp: e.Owner.Timestamp, State: "FAIL", Name: "host2"}
			if e.Owner != want || e.Wait == 0 || e.Wait > fireSeconds {
				t.Errorf("owner %+v, wait %d s; want %+v", e.Owner, e.Wait, want)
			}
		})
	}
}

// silent waits until a host was not seen to renew for as long as its lease lasts.
func silent(t *testing.T, s *space, id uint64) {
	t.Helper()
	for deadline := time.Now().Add(meetWait); ; time.Sleep(pollEvery) {
		hosts, err := s.hosts(t.Context(), id)
		if err == nil && len(hosts) == 1 && hosts[0].Verdict() == leases.Failing {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("host %d does not fail: %+v, %v", id, hosts, err)
		}
	}
}

// alone waits until nobody else is seen.
func alone(t *testing.T, s *space) {
	t.Helper()
	for deadline := time.Now().Add(meetWait); ; time.Sleep(pollEvery) {
		others, unsure, err := s.Hosts(t.Context())
		if err == nil && others == 0 && !unsure {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d others, unsure %t, %v; all have left", others, unsure, err)
		}
	}
}

// TestSideBySide: calls for many resources may come at once.
func TestSideBySide(t *testing.T) {
	t.Parallel()
	const lvs = 8
	h := start(t, tenure, 1, disks(t, 80*mib, "vg"))
	h.format(t, "vg", true)
	s := h.join(t, "vg")
	for i := range lvs {
		h.initLV(t, s, i, 67+int64(i))
	}
	var all sync.WaitGroup
	for i := range lvs {
		all.Go(func() {
			lv := lvAt(i, 67+int64(i))
			for range 5 {
				if _, err := s.Lock(t.Context(), lv, lvmwire.EX, lvmlock.LockOptions{}); err != nil {
					t.Error(err)
				}
				if err := s.Convert(t.Context(), lv, lvmwire.EX, lvmwire.SH, nil); err != nil {
					t.Error(err)
				}
				if err := s.Unlock(t.Context(), lv, lvmwire.SH, nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Go(func() {
		for range 5 {
			if err := s.FindFree(t.Context(), 0); err != nil {
				t.Error(err)
			}
		}
	})
	all.Wait()
}
