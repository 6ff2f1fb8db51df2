package native

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurelock/tenure/daemon/lvmlock"
	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// TestLife: a VG is made, started, used and stopped, and what a lock's holder wrote the next one sees.
func TestLife(t *testing.T) {
	t.Parallel()
	for _, k := range kinds {
		t.Run(string(k), func(t *testing.T) {
			t.Parallel()
			dir := disks(t, 80*mib, "vg-1")
			h := start(t, k, 7, dir)
			h.format(t, "vg-1", true)
			s := h.join(t, "vg-1")
			if s.generation != 1 {
				t.Errorf("generation %d of the first life", s.generation)
			}
			if v := mustLock(t, s, groupLock, lvmwire.EX); v != (lvmlock.Value{}) {
				t.Errorf("the value of a new VG lock is %+v", v)
			}
			mustUnlock(t, s, groupLock, lvmwire.EX, &lvmlock.Value{Version: 4711, Removed: true})
			want := lvmlock.Value{Version: 4711, Removed: true, Set: true}
			if v := mustLock(t, s, groupLock, lvmwire.SH); v != want {
				t.Errorf("value %+v, want %+v", v, want)
			}
			mustUnlock(t, s, groupLock, lvmwire.SH, nil)
			args, err := h.InitLV(t.Context(), h.vg("vg-1"), s, uuid(1), "")
			if err != nil || args != "1.0.0:70254592" {
				t.Fatalf("InitLV: %q, %v", args, err)
			}
			lv := lvmlock.Resource{Kind: lvmwire.LV, Name: uuid(1), Args: args}
			mustLock(t, s, lv, lvmwire.EX)
			if err := s.Convert(t.Context(), lv, lvmwire.EX, lvmwire.SH, nil); err != nil {
				t.Error(err)
			}
			if err := s.Convert(t.Context(), lv, lvmwire.SH, lvmwire.EX, nil); err != nil {
				t.Error(err)
			}
			if err := s.Leave(t.Context(), false); err != nil {
				t.Fatal(err)
			}
			if names, err := h.Lockspaces(t.Context()); err != nil || len(names) != 0 {
				t.Errorf("after leaving: lockspaces %q, %v", names, err)
			}
			s = h.join(t, "vg-1")
			if s.generation != 2 {
				t.Errorf("generation %d of the second life", s.generation)
			}
			names, err := h.Lockspaces(t.Context())
			if diff := cmp.Diff([]string{"lvm_vg-1"}, names); diff != "" || err != nil {
				t.Errorf("lockspaces (-want +got):\n%s%v", diff, err)
			}
			if v := mustLock(t, s, groupLock, lvmwire.SH); v != want {
				t.Errorf("value %+v in the second life, want %+v", v, want)
			}
		})
	}
}

// TestConflict: two hosts, one on each daemon. Whoever has a lock keeps it from the other, who is told about
// it.
func TestConflict(t *testing.T) {
	t.Parallel()
	a, b, ha, _ := twoHosts(t, "vg")
	args, err := ha.InitLV(t.Context(), ha.vg("vg"), a, uuid(1), "")
	if err != nil {
		t.Fatal(err)
	}
	lv := lvmlock.Resource{Kind: lvmwire.LV, Name: uuid(1), Args: args}
	for _, c := range []struct {
		name        string
		holder, who *space
		id          uint64
	}{{"ours holds", a, b, 1}, {"debian's holds", b, a, 2}} {
		for _, r := range []lvmlock.Resource{globalLock, groupLock, lv} {
			what := c.name + " " + r.Name
			mustLock(t, c.holder, r, lvmwire.EX)
			for _, m := range []lvmwire.Mode{lvmwire.SH, lvmwire.EX} {
				_, err := c.who.Lock(t.Context(), r, m, lvmlock.LockOptions{})
				e := wantResult(t, what, err, lvmwire.Again)
				if e.Retry != (m == lvmwire.SH) {
					t.Errorf("%s: mode %d: retry %t", what, m, e.Retry)
				}
				if e.Owner.HostID != c.id || e.Owner.Generation != 1 {
					t.Errorf("%s: owner %+v", what, e.Owner)
				}
			}
			if err := c.holder.Convert(t.Context(), r, lvmwire.EX, lvmwire.SH, nil); err != nil {
				t.Error(what, err)
			}
			mustLock(t, c.who, r, lvmwire.SH)
			err := c.who.Convert(t.Context(), r, lvmwire.SH, lvmwire.EX, nil)
			e := wantResult(t, what+" shared by both, convert", err, lvmwire.Again)
			if e.Owner.HostID != c.id {
				t.Errorf("%s shared by both, convert: owner %+v", what, e.Owner)
			}
			mustUnlock(t, c.holder, r, lvmwire.SH, nil)
			if err := c.who.Convert(t.Context(), r, lvmwire.SH, lvmwire.EX, nil); err != nil {
				t.Error(what, err)
			}
			mustUnlock(t, c.who, r, lvmwire.EX, &lvmlock.Value{Version: uint32(c.id)})
			v := mustLock(t, c.holder, r, lvmwire.EX)
			if r.Kind != lvmwire.LV && v.Version != uint32(c.id) {
				t.Errorf("%s: value %+v is not that of the other host", what, v)
			}
			mustUnlock(t, c.holder, r, lvmwire.EX, nil)
		}
	}
}
