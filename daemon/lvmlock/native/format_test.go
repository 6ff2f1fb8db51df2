package native

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurelock/tenure/daemon/client"
	"github.com/tenurelock/tenure/daemon/lvmlock"
	"github.com/tenurelock/tenure/daemon/lvmwire"
	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/tools/need"
)

// leaseNames are the names of the slots from 65 on, up to the end, "" where none was ever written.
func leaseNames(tb testing.TB, h *host, vg string, lay layout) (space string, names []string) {
	tb.Helper()
	path := h.device(vg, "lvmlock")
	size, err := sizeOf(path)
	if err != nil {
		tb.Fatal(err)
	}
	err = h.ask(tb.Context(), func(c *client.Conn) error {
		l, _, err := c.ReadLockspace(tb.Context(), sanlockwire.Lockspace{Disk: sanlockwire.Disk{Path: path}})
		if err != nil {
			return err
		}
		space = l.Name.String()
		if got, ok := layoutOf(l.Flags); !ok || got != lay {
			tb.Errorf("layout %+v, want %+v", got, lay)
		}
		for off := lay.at(globalSlot); off+lay.align <= size; off += lay.align {
			r, err := c.ReadResource(tb.Context(), sanlockwire.Resource{Disks: disk(path, off)})
			name := r.Space.String() + ":" + r.Name.String()
			if _, answered := said(err); answered {
				name = ""
			} else if err != nil {
				return err
			}
			names = append(names, name)
		}
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	return space, names
}

// TestInitVG: what is where, for each size of sectors and leases, and which wishes are refused.
func TestInitVG(t *testing.T) {
	t.Parallel()
	for _, k := range kinds {
		t.Run(string(k), func(t *testing.T) {
			t.Parallel()
			dir := disks(t, 69*mib, "vg", "long", "small")
			for _, c := range []struct {
				vg      string
				sector  int
				alignMB int64
				want    layout
			}{
				{"small", 512, 0, layout{512, mib}},
				{"v512", 512, 8, layout{512, mib}},
				{"v1", 4096, 1, layout{4096, mib}},
				{"v2", 4096, 2, layout{4096, 2 * mib}},
				{"v4", 4096, 4, layout{4096, 4 * mib}},
				{"v8", 4096, 0, layout{4096, 8 * mib}},
			} {
				t.Run(c.vg, func(t *testing.T) {
					if c.vg != "small" {
						dev := need.Loop(t, c.sector, c.want.align*70)
						if err := os.Symlink(dev, filepath.Join(dir, c.vg+"-lvmlock")); err != nil {
							t.Fatal(err)
						}
					}
					h := start(t, k, 1, dir)
					_, err := h.InitVG(t.Context(), lvmlock.VG{Name: c.vg, Args: "lvmlock"},
						lvmlock.InitOptions{Global: c.sector == 512, AlignMB: c.alignMB})
					if err != nil {
						t.Fatal(err)
					}
					space, names := leaseNames(t, h, c.vg, c.want)
					global := disabledName
					if c.sector == 512 {
						global = globalName
					}
					want := []string{global, groupName, freeName, freeName}
					if c.vg != "small" {
						want = append(want, freeName)
					}
					for i := range want {
						want[i] = "lvm_" + c.vg + ":" + want[i]
					}
					if diff := cmp.Diff(want, names); diff != "" || space != "lvm_"+c.vg {
						t.Errorf("lockspace %s, leases (-want +got):\n%s", space, diff)
					}
					h.checkHostIDs(t, c.vg, c.want)
				})
			}
		})
	}
}

// checkHostIDs wants host ids refused that have no place in the layout.
func (h *host) checkHostIDs(t *testing.T, vg string, lay layout) {
	t.Helper()
	for id, want := range map[uint64]lvmwire.Result{
		0: lvmwire.BadHostID, 1: lvmwire.OK, lay.maxHosts(): lvmwire.OK, lay.maxHosts() + 1: lvmwire.BadHostID,
	} {
		g := lvmlock.VG{Name: vg, Args: "1.0.0:lvmlock", HostID: id}
		s, _, err := h.Prepare(t.Context(), g, lvmlock.PrepareOptions{})
		if want != lvmwire.OK {
			wantResult(t, "host id", err, want)
			continue
		}
		if err != nil {
			t.Errorf("host id %d: %v", id, err)
			continue
		}
		if err := s.Leave(t.Context(), false); err != nil {
			t.Error(err)
		}
	}
}

// TestRefusals: what is asked amiss is refused with a number that LVM's commands know.
func TestRefusals(t *testing.T) {
	t.Parallel()
	for _, k := range kinds {
		t.Run(string(k), func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			dir := disks(t, 70*mib, "vg", strings.Repeat("a", 44)+"x", strings.Repeat("a", 44)+"y")
			if err := os.WriteFile(filepath.Join(dir, "tiny-lvmlock"), make([]byte, mib), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(filepath.Join(dir, "dir-lvmlock"), 0o700); err != nil {
				t.Fatal(err)
			}
			h := start(t, k, 1, dir)
			for _, c := range []struct {
				what string
				vg   lvmlock.VG
				o    lvmlock.InitOptions
				want lvmwire.Result
			}{
				{"no args", lvmlock.VG{Name: "vg"}, lvmlock.InitOptions{}, lvmwire.BadArgs},
				{"setlockargs", lvmlock.VG{Name: "vg", Args: "lvmlock"}, lvmlock.InitOptions{SetArgs: "notimeout"}, lvmwire.BadArgs},
				{"no device", lvmlock.VG{Name: "no", Args: "lvmlock"}, lvmlock.InitOptions{}, lvmwire.BadArgs},
				{"no device either", lvmlock.VG{Name: "dir", Args: "lvmlock"}, lvmlock.InitOptions{}, lvmwire.BadArgs},
				{"too small", lvmlock.VG{Name: "tiny", Args: "lvmlock"}, lvmlock.InitOptions{}, lvmwire.TooLong},
				{"long", lvmlock.VG{Name: "vg", Args: strings.Repeat("l", 60)}, lvmlock.InitOptions{}, lvmwire.BadRequest},
			} {
				_, err := h.InitVG(ctx, c.vg, c.o)
				wantResult(t, c.what, err, c.want)
			}
			prepare := func(what string, vg lvmlock.VG, want lvmwire.Result) {
				t.Helper()
				_, _, err := h.Prepare(ctx, vg, lvmlock.PrepareOptions{})
				wantResult(t, what, err, want)
			}
			prepare("not formatted", h.vg("vg"), lvmwire.RepairNeeded)
			prepare("no device", h.vg("no"), lvmwire.BadArgs)
			for _, args := range []string{"", "lvmlock", "3.0.0:lvmlock", "1.0:lvmlock", "1.0.0:", "a.b.c:lvmlock"} {
				prepare("args "+args, lvmlock.VG{Name: "vg", Args: args, HostID: 1}, lvmwire.BadArgs)
			}
			h.refuseTwins(t)
			h.format(t, "vg", true)
			h.format(t, "vg", false) // again, while nobody uses it
			h.join(t, "vg")
			_, err := h.InitVG(ctx, lvmlock.VG{Name: "vg", Args: "lvmlock"}, lvmlock.InitOptions{})
			wantResult(t, "init what is joined", err, lvmwire.Exists)
			wantResult(t, "rename onto what is joined", h.RenameVG(ctx, h.vg("vg")), lvmwire.Exists)
			h.kill()
			wantResult(t, "no daemon", h.Running(ctx), lvmwire.NoManager)
			prepare("no daemon", h.vg(strings.Repeat("a", 44)+"x"), lvmwire.NoManager)
			_, err = h.InitVG(ctx, lvmlock.VG{Name: "tiny", Args: "lvmlock"}, lvmlock.InitOptions{})
			wantResult(t, "no daemon", err, lvmwire.NoManager)
		})
	}
}

// TestNewerArgs: a VG whose lock args ask for more than leases of time do is neither started nor changed. Its other hosts
// count on it: with notimeout nobody may take their leases, and with persist they take those of a host that they have
// fenced.
func TestNewerArgs(t *testing.T) {
	t.Parallel()
	for _, k := range kinds {
		t.Run(string(k), func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			h := start(t, k, 1, disks(t, 70*mib, "vg"))
			h.format(t, "vg", true)
			_, was := leaseNames(t, h, "vg", layout{512, mib})
			for _, args := range []string{
				"2.0.0:lvmlock:notimeout", "2.0.0:lvmlock:persist", "2.0.0:lvmlock:notimeout:persist",
				"1.0.0:lvmlock:persist", "2.0.0:lvmlock:",
			} {
				vg := lvmlock.VG{Name: "vg", Args: args, HostID: 1}
				_, _, err := h.Prepare(ctx, vg, lvmlock.PrepareOptions{})
				wantResult(t, "start with "+args, err, lvmwire.BadArgs)
				_, err = h.InitLV(ctx, vg, nil, uuid(1), "")
				wantResult(t, "init an LV with "+args, err, lvmwire.BadArgs)
				wantResult(t, "rename with "+args, h.RenameVG(ctx, vg), lvmwire.BadRequest)
			}
			if _, names := leaseNames(t, h, "vg", layout{512, mib}); !cmp.Equal(was, names) {
				t.Errorf("leases %q, were %q", names, was)
			}
			s, _, err := h.Prepare(ctx, lvmlock.VG{Name: "vg", Args: "2.0.0:lvmlock", HostID: 1}, lvmlock.PrepareOptions{})
			if err != nil {
				t.Errorf("with nothing more: %v", err)
			} else if err := s.Leave(ctx, false); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestKillpathFits: a VG of which the daemon could not tell lvmlockctl in full is not made, nor started.
func TestKillpathFits(t *testing.T) {
	t.Parallel()
	for _, k := range kinds {
		t.Run(string(k), func(t *testing.T) {
			t.Parallel()
			fits := strings.Repeat("n", 119)
			h := start(t, k, 1, disks(t, 70*mib, fits, fits+"n"))
			h.format(t, fits, true)
			s, _, err := h.Prepare(t.Context(), h.vg(fits), lvmlock.PrepareOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Leave(t.Context(), false); err != nil {
				t.Error(err)
			}
			_, err = h.InitVG(t.Context(), lvmlock.VG{Name: fits + "n", Args: "lvmlock"}, lvmlock.InitOptions{})
			wantResult(t, "init", err, lvmwire.BadArgs)
			_, _, err = h.Prepare(t.Context(), h.vg(fits+"n"), lvmlock.PrepareOptions{})
			wantResult(t, "start", err, lvmwire.BadArgs)
		})
	}
}

// refuseTwins: VGs whose names begin with the same 44 bytes cannot both be used.
func (h *host) refuseTwins(t *testing.T) {
	t.Helper()
	x, y := strings.Repeat("a", 44)+"x", strings.Repeat("a", 44)+"y"
	h.format(t, x, false)
	h.format(t, y, false)
	first := h.join(t, x)
	_, err := h.InitVG(t.Context(), lvmlock.VG{Name: y, Args: "lvmlock"}, lvmlock.InitOptions{})
	wantResult(t, "init a VG whose lockspace is another's", err, lvmwire.Exists)
	s, _, err := h.Prepare(t.Context(), h.vg(y), lvmlock.PrepareOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Join(t.Context(), lvmlock.JoinOptions{Adopt: true})
	wantResult(t, "join it", err, lvmwire.Exists)
	if err := first.Leave(t.Context(), false); err != nil {
		t.Fatal(err)
	}
}

// TestRename: all leases have the new name, those of LVs and the disabled global lock keep theirs, all hosts
// are forgotten, and slots behind one that was never written are not left out.
func TestRename(t *testing.T) {
	t.Parallel()
	for _, k := range kinds {
		t.Run(string(k), func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			dir := disks(t, 71*mib, "old-vg")
			h := start(t, k, 1, dir)
			h.format(t, "old-vg", false)
			s := h.join(t, "old-vg")
			mustLock(t, s, groupLock, lvmwire.EX)
			mustUnlock(t, s, groupLock, lvmwire.EX, &lvmlock.Value{Version: 5})
			for i := range 2 {
				if _, err := h.InitLV(ctx, h.vg("old-vg"), s, uuid(i), ""); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Leave(ctx, false); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "new--vg-lvmlock")
			if err := os.Rename(filepath.Join(dir, "old--vg-lvmlock"), path); err != nil {
				t.Fatal(err)
			}
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			_, err = f.WriteAt(make([]byte, mib), 67*mib) // LV 0's lease
			if err := errors.Join(err, f.Close()); err != nil {
				t.Fatal(err)
			}
			if err := h.RenameVG(ctx, h.vg("new-vg")); err != nil {
				t.Fatal(err)
			}
			space, names := leaseNames(t, h, "new-vg", layout{512, mib})
			p := "lvm_new-vg:"
			want := []string{p + disabledName, p + groupName, "", p + uuid(1), p + freeName, p + freeName}
			if diff := cmp.Diff(want, names); diff != "" || space != "lvm_new-vg" {
				t.Errorf("lockspace %q, leases (-want +got):\n%s", space, diff)
			}
			s = h.join(t, "new-vg")
			if s.generation != 1 {
				t.Errorf("generation %d of the first life under this name", s.generation)
			}
			mustLock(t, s, lvAt(1, 68), lvmwire.EX)
			err = h.RenameVG(ctx, h.vg("no-vg"))
			wantResult(t, "no device", err, lvmwire.BadArgs)
		})
	}
}

// TestFree: after a VG was removed, nothing on its lock LV can be taken for its locks.
func TestFree(t *testing.T) {
	t.Parallel()
	for _, k := range kinds {
		t.Run(string(k), func(t *testing.T) {
			t.Parallel()
			for _, held := range []bool{true, false} {
				h := start(t, k, 1, disks(t, 69*mib, "vg"))
				h.format(t, "vg", true)
				s := h.join(t, "vg")
				if held {
					mustLock(t, s, groupLock, lvmwire.EX)
					mustLock(t, s, globalLock, lvmwire.EX)
				}
				if err := s.Leave(t.Context(), true); err != nil {
					t.Fatal(err)
				}
				space, names := leaseNames(t, h, "vg", layout{512, mib})
				p := "lvm_vg:"
				want := []string{p + removedName, p + removedName, p + freeName, p + freeName}
				if diff := cmp.Diff(want, names); diff != "" || space != freeName {
					t.Errorf("held %t: lockspace %q, leases (-want +got):\n%s", held, space, diff)
				}
				_, _, err := h.Prepare(t.Context(), h.vg("vg"), lvmlock.PrepareOptions{})
				wantResult(t, "start what was removed", err, lvmwire.RepairNeeded)
			}
		})
	}
}

// TestSameBytes: Tenure's daemon and Debian's write the same bytes for us.
func TestSameBytes(t *testing.T) {
	t.Parallel()
	var disk [2][]byte
	for i, k := range kinds {
		dir := disks(t, 80*mib, "vg")
		start(t, k, 1, dir).format(t, "vg", true)
		text, err := os.ReadFile(filepath.Join(dir, "vg-lvmlock"))
		if err != nil {
			t.Fatal(err)
		}
		disk[i] = text
	}
	if !bytes.Equal(disk[0], disk[1]) {
		t.Error("they differ")
	}
}

// TestCancel: a join that nobody waits for any more is undone.
func TestCancel(t *testing.T) {
	t.Parallel()
	for _, k := range kinds {
		t.Run(string(k), func(t *testing.T) {
			t.Parallel()
			h := start(t, k, 1, disks(t, 69*mib, "vg"))
			h.format(t, "vg", true)
			s, _, err := h.Prepare(t.Context(), h.vg("vg"), lvmlock.PrepareOptions{})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), ioTimeout*1e9)
			defer cancel()
			if _, err := s.Join(ctx, lvmlock.JoinOptions{}); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("Join: %v", err)
			}
			again := h.join(t, "vg") // as soon as the other is gone
			if again.generation != 2 {
				t.Errorf("generation %d after one join that was undone", again.generation)
			}
		})
	}
}
