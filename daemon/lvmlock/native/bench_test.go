package native

import (
	"math"
	"testing"

	"github.com/tenurelock/tenure/daemon/client"
	"github.com/tenurelock/tenure/daemon/lvmlock"
	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// manyLVs is how many LVs the lock LV of the benchmark has, all slots but the last.
const manyLVs = 1000

// BenchmarkFindFree compares how the one free slot behind 1000 LVs is found: by reading every slot through the daemon,
// as stock's search does at worst, by our first look, and by those after it.
func BenchmarkFindFree(b *testing.B) {
	for _, k := range kinds {
		b.Run(string(k), func(b *testing.B) {
			ctx := b.Context()
			h := start(b, k, 1, disks(b, (firstLVSlot+manyLVs+1)*mib, "vg"))
			f := formatter{h.Manager, spaceName("vg"), h.device("vg", "lvmlock"), layout{512, mib}}
			h.format(b, "vg", true)
			err := h.eachSlot(ctx, f.path, firstLVSlot*mib, mib, func(c *client.Conn, off int64) error {
				i := int(off/mib) - firstLVSlot
				if i == manyLVs {
					return nil
				}
				return f.lease(ctx, c, uuid(i), off)
			})
			if err != nil {
				b.Fatal(err)
			}
			s := h.join(b, "vg")
			b.Run("each slot", func(b *testing.B) {
				for b.Loop() {
					for off := s.lay.at(firstLVSlot); ; off += s.lay.align {
						name, err := h.examine(ctx, s.path, off)
						if err != nil {
							b.Fatal(err)
						}
						if name == "" {
							break
						}
					}
				}
			})
			b.Run("first look", func(b *testing.B) {
				for b.Loop() {
					s.slots.forget()
					if err := s.FindFree(ctx, math.MaxInt64); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run("next look", func(b *testing.B) {
				for b.Loop() {
					if err := s.FindFree(ctx, math.MaxInt64); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}

// BenchmarkLock is one VG lock and unlock, and one refusal with the name of the owner.
func BenchmarkLock(b *testing.B) {
	for _, k := range kinds {
		b.Run(string(k), func(b *testing.B) {
			dir := disks(b, 70*mib, "vg")
			h, other := start(b, k, 1, dir), start(b, tenure, 2, dir)
			h.format(b, "vg", true)
			s, so := h.join(b, "vg"), other.join(b, "vg")
			meet(b, s)
			for _, m := range []lvmwire.Mode{lvmwire.EX, lvmwire.SH} {
				b.Run(map[lvmwire.Mode]string{lvmwire.EX: "ex", lvmwire.SH: "sh"}[m], func(b *testing.B) {
					for b.Loop() {
						mustLock(b, s, groupLock, m)
						mustUnlock(b, s, groupLock, m, nil)
					}
				})
			}
			mustLock(b, so, groupLock, lvmwire.EX)
			b.Run("refused", func(b *testing.B) {
				for b.Loop() {
					_, err := s.Lock(b.Context(), groupLock, lvmwire.EX, lvmlock.LockOptions{})
					if e := wantResult(b, "held", err, lvmwire.Again); e.Owner.HostID != 2 {
						b.Fatalf("owner %+v", e.Owner)
					}
				}
			})
			l, err := s.lease(groupLock, lvmwire.EX)
			if err != nil {
				b.Fatal(err)
			}
			b.Run("refused without owner", func(b *testing.B) {
				for b.Loop() {
					if s.acquire(l, groupLock, lvmlock.LockOptions{}) == nil {
						b.Fatal("granted")
					}
				}
			})
		})
	}
}
