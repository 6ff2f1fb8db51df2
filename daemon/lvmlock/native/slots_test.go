package native

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurelock/tenure/daemon/client"
	"github.com/tenurelock/tenure/daemon/lvmlock"
	"github.com/tenurelock/tenure/daemon/lvmwire"
)

func at(slot int64) string { return lvArgs(slot * mib) }

func lvAt(i int, slot int64) lvmlock.Resource {
	return lvmlock.Resource{Kind: lvmwire.LV, Name: uuid(i), Args: at(slot)}
}

// initLV wants the LV's lease in a slot.
func (h *host) initLV(tb testing.TB, s lvmlock.Lockspace, i int, slot int64) {
	tb.Helper()
	args, err := h.InitLV(tb.Context(), h.vg("vg"), s, uuid(i), "")
	if err != nil || args != at(slot) {
		tb.Errorf("InitLV %d: %q, %v; want %q", i, args, err, at(slot))
	}
}

// TestSlots: the first free slot is taken, freed ones again, and when all are taken the lock LV must grow.
func TestSlots(t *testing.T) {
	t.Parallel()
	for _, k := range kinds {
		t.Run(string(k), func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			dir := disks(t, 72*mib+4096, "vg") // slots 67 to 71, and a piece
			path := filepath.Join(dir, "vg-lvmlock")
			h := start(t, k, 1, dir)
			h.format(t, "vg", true)
			s := h.join(t, "vg")
			h.initLV(t, s, 100, 67)
			if err := s.FreeLV(ctx, lvAt(100, 67)); err != nil {
				t.Error(err)
			}
			for i := range 5 {
				if err := s.FindFree(ctx, 0); err != nil {
					t.Error(err)
				}
				h.initLV(t, s, i, 67+int64(i))
			}
			_, err := h.InitLV(ctx, h.vg("vg"), s, uuid(6), "")
			wantResult(t, "InitLV in a full lock LV", err, lvmwire.TooLong)
			wantResult(t, "FindFree in a full lock LV", s.FindFree(ctx, 0), lvmwire.TooLong)
			for _, i := range []int{3, 1} {
				if err := s.FreeLV(ctx, lvAt(i, 67+int64(i))); err != nil {
					t.Error(err)
				}
			}
			wantResult(t, "FindFree in the part that is of no use", s.FindFree(ctx, 68*mib+1), lvmwire.TooLong)
			if err := s.FindFree(ctx, 69*mib); err != nil {
				t.Error("FindFree in the part up to the free slot:", err)
			}
			_, err = h.InitLV(ctx, h.vg("vg"), s, uuid(2), "")
			wantResult(t, "InitLV of an LV that has a lease", err, lvmwire.Exists)
			h.initLV(t, s, 11, 68)
			h.initLV(t, s, 13, 70)
			if err := os.Truncate(path, 74*mib); err != nil { // zeros, as the command leaves them
				t.Fatal(err)
			}
			if err := s.FindFree(ctx, 74*mib); err != nil {
				t.Error("FindFree in an extended lock LV:", err)
			}
			h.initLV(t, s, 21, 72)
			mustLock(t, s, lvAt(21, 72), lvmwire.EX)
			_, err = s.Lock(ctx, lvAt(22, 80), lvmwire.EX, lvmlock.LockOptions{})
			wantResult(t, "a lease beyond the end", err, lvmwire.TooLong)
			wantResult(t, "free another LV's slot", s.FreeLV(ctx, lvAt(99, 69)), lvmwire.BadArgs)
			wantResult(t, "free the VG's slot", s.FreeLV(ctx, lvAt(99, 66)), lvmwire.Perm)
			mustLock(t, s, lvAt(2, 69), lvmwire.EX)
		})
	}
}

// TestSlotsOfOthers: what another host allocated or freed since we looked is not overwritten, and is found.
func TestSlotsOfOthers(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	dir := disks(t, 90*mib, "vg")
	h := start(t, tenure, 1, dir)
	h.format(t, "vg", true)
	s := h.join(t, "vg")
	h.initLV(t, s, 0, 67)
	write := func(name string, slot int64) {
		err := h.ask(ctx, func(c *client.Conn) error {
			return c.WriteResource(ctx, s.resource(name, s.lay.at(slot)), 0, 0, 0)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range int64(12) { // more than are tried before all is read again
		write(uuid(100+int(i)), 68+i)
	}
	write(freeName, 67)
	h.initLV(t, s, 1, 67)
	for i := range int64(10) {
		h.initLV(t, s, 2+int(i), 80+i)
	}
	wantResult(t, "full", s.FindFree(ctx, 0), lvmwire.TooLong)
	write(freeName, 75)
	if err := s.FindFree(ctx, 0); err != nil {
		t.Error("a slot that another host freed is not found:", err)
	}
	if err := os.Truncate(filepath.Join(dir, "vg-lvmlock"), 75*mib); err != nil {
		t.Fatal(err)
	}
	wantResult(t, "the free slot is no more", s.FindFree(ctx, 0), lvmwire.TooLong)
}

// TestSlotsUnstarted: LVs get their leases before the VG was ever started, and each is told where the last
// one's is.
func TestSlotsUnstarted(t *testing.T) {
	t.Parallel()
	for _, k := range kinds {
		t.Run(string(k), func(t *testing.T) {
			t.Parallel()
			h := start(t, k, 1, disks(t, 70*mib, "vg"))
			h.format(t, "vg", true)
			h.initLV(t, nil, 0, 67)
			args, err := h.InitLV(t.Context(), h.vg("vg"), nil, uuid(1), at(67))
			if err != nil || args != at(68) {
				t.Errorf("InitLV: %q, %v", args, err)
			}
			_, err = h.InitLV(t.Context(), h.vg("vg"), nil, uuid(1), "")
			wantResult(t, "again", err, lvmwire.Exists)
			args, err = h.InitLV(t.Context(), h.vg("vg"), nil, uuid(2), at(68))
			if err != nil || args != at(69) {
				t.Errorf("InitLV: %q, %v", args, err)
			}
			_, err = h.InitLV(t.Context(), h.vg("vg"), nil, uuid(3), at(69))
			wantResult(t, "full", err, lvmwire.TooLong)
		})
	}
}

// TestSlotsBothWays: whoever reads the slots, this process or, where it cannot, the daemon, finds the same.
func TestSlotsBothWays(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	h := start(t, tenure, 1, disks(t, 73*mib, "vg"))
	h.format(t, "vg", true)
	s := h.join(t, "vg")
	for i := range 5 {
		h.initLV(t, s, i, 67+int64(i))
	}
	if err := s.FreeLV(ctx, lvAt(1, 68)); err != nil {
		t.Fatal(err)
	}
	want := []string{uuid(0), "", uuid(2), uuid(3), uuid(4), ""}
	for _, slow := range []bool{false, true} {
		if slow {
			for range maxScans { // as if earlier scans hung
				h.scans <- struct{}{}
			}
		}
		f := finder{s.m, s.path, &slotMap{lay: s.lay, first: 67 * mib}}
		for n := 1; n > 0; {
			var err error
			if n, err = f.scan(ctx); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(want, f.names); diff != "" || f.slow != slow {
			t.Errorf("slow %t, want %t, slots (-want +got):\n%s", f.slow, slow, diff)
		}
		s.slots.forget()
		h.initLV(t, s, 10, 68)
		if err := s.FreeLV(ctx, lvAt(10, 68)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSlotMap: the map is bounded by where it was looked, whatever is asked of it.
func TestSlotMap(t *testing.T) {
	t.Parallel()
	m := slotMap{lay: layout{512, mib}, first: 67 * mib, names: []string{"a", "", "c", ""}}
	if off, ok := m.free(math.MaxInt64); !ok || off != 68*mib {
		t.Errorf("free: %d, %t", off, ok)
	}
	if off, ok := m.free(69*mib - 1); ok {
		t.Errorf("free below its end: %d", off)
	}
	m.set(68*mib, "b")
	m.set(66*mib, "x")
	m.set(71*mib, "x")
	if off, ok := m.free(math.MaxInt64); !ok || off != 70*mib {
		t.Errorf("free: %d, %t", off, ok)
	}
	if off, ok := m.find("b"); !ok || off != 68*mib {
		t.Errorf("find: %d, %t", off, ok)
	}
	if _, ok := m.find("x"); ok {
		t.Error("found what is nowhere")
	}
	m.cut(69 * mib)
	m.cut(80 * mib)
	if off, ok := m.free(math.MaxInt64); ok || m.end() != 69*mib {
		t.Errorf("after the cut: %d, end %d", off, m.end())
	}
}
