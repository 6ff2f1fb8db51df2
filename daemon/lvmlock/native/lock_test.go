package native

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurelock/tenure/daemon/lvmlock"
	"github.com/tenurelock/tenure/daemon/lvmwire"
	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/tools/need"
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

// atOnce is how long a lock may take that is refused without waiting for anybody, on a busy machine.
const atOnce = 20 * time.Second

// TestSilentOwner: the leases of a host that has died, and is not known to be dead, are refused at once: a command waits
// for the answer. The daemon is told not to wait for the owner.
func TestSilentOwner(t *testing.T) {
	t.Parallel()
	for _, k := range kinds {
		t.Run(string(k), func(t *testing.T) {
			t.Parallel()
			a, b, ha, hb := twoHosts(t, "vg")
			who, owner, died := a, b, hb
			if k == debian {
				who, owner, died = b, a, ha
			}
			args, err := ha.InitLV(t.Context(), ha.vg("vg"), a, uuid(1), "")
			if err != nil {
				t.Fatal(err)
			}
			lv := lvmlock.Resource{Kind: lvmwire.LV, Name: uuid(1), Args: args}
			mustLock(t, owner, groupLock, lvmwire.EX)
			mustLock(t, owner, lv, lvmwire.SH)
			mustLock(t, who, lv, lvmwire.SH)
			died.kill()
			for deadline := time.Now().Add(meetWait); ; time.Sleep(pollEvery) {
				hosts, err := who.hosts(t.Context(), owner.vg.HostID)
				if err == nil && len(hosts) == 1 && hosts[0].Verdict() != leases.Alive {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("the owner is not seen to be silent: %v, %v", hosts, err)
				}
			}
			begin := time.Now()
			_, err = who.Lock(t.Context(), groupLock, lvmwire.EX, lvmlock.LockOptions{})
			wantResult(t, "lock", err, lvmwire.Again)
			wantResult(t, "convert", who.Convert(t.Context(), lv, lvmwire.SH, lvmwire.EX, nil), lvmwire.Again)
			if took := time.Since(begin); took > atOnce {
				t.Errorf("it took %v to say so", took)
			}
		})
	}
}

// TestRestricted: the daemon must not kill this process for one VG, with others in it. Debian's log tells that it was
// told so.
func TestRestricted(t *testing.T) {
	t.Parallel()
	h := start(t, debian, 1, disks(t, 70*mib, "vg"))
	h.format(t, "vg", true)
	s, _, err := h.Prepare(t.Context(), h.vg("vg"), lvmlock.PrepareOptions{})
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.ReadFile(h.log)
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf(`cmd_restrict ci \d+ fd \d+ pid %d flags %d\n`, os.Getpid(), sanlockwire.RestrictSigkill)
	if !regexp.MustCompile(want).Match(log) {
		t.Errorf("%s has no %s", log, want)
	}
	if err := s.Leave(t.Context(), false); err != nil {
		t.Error(err)
	}
}

// TestSmallLeases: sizes that leave no room for a value block in a lease. Locks have none there: the block would lie in
// another lease, which Debian's daemon would overwrite with it.
func TestSmallLeases(t *testing.T) {
	t.Parallel()
	for _, k := range kinds {
		for _, align := range []int64{1, 2, 4} {
			t.Run(fmt.Sprintf("%s, %d MiB", k, align), func(t *testing.T) {
				t.Parallel()
				dir, lay := t.TempDir(), layout{4096, align * mib}
				dev := need.Loop(t, 4096, lay.at(firstLVSlot+9))
				if err := os.Symlink(dev, filepath.Join(dir, "vg-lvmlock")); err != nil {
					t.Fatal(err)
				}
				h := start(t, k, 1, dir)
				vg := lvmlock.VG{Name: "vg", Args: "lvmlock"}
				if _, err := h.InitVG(t.Context(), vg, lvmlock.InitOptions{Global: true, AlignMB: align}); err != nil {
					t.Fatal(err)
				}
				h.smallLeases(t, dev, lay)
			})
		}
	}
}

func (h *host) smallLeases(t *testing.T, dev string, lay layout) {
	t.Helper()
	ctx := t.Context()
	var lvs [2]lvmlock.Resource
	args := ""
	for i := range lvs {
		var err error
		args, err = h.InitLV(ctx, h.vg("vg"), nil, uuid(i), args)
		if want := lvArgs(lay.at(firstLVSlot + int64(i))); args != want || err != nil {
			t.Fatalf("InitLV: %q, %v, want %q", args, err, want)
		}
		lvs[i] = lvmlock.Resource{Kind: lvmwire.LV, Name: uuid(i), Args: args}
	}
	// others reads all leases but that of a slot.
	others := func(slot int64) []byte {
		text, err := os.ReadFile(dev)
		if err != nil {
			t.Fatal(err)
		}
		clear(text[:lay.align]) // the lockspace, which is renewed
		clear(text[lay.at(slot):][:lay.align])
		return text
	}
	s := h.join(t, "vg")
	for slot, r := range map[int64]lvmlock.Resource{globalSlot: globalLock, groupSlot: groupLock} {
		was := others(slot)
		mustLock(t, s, r, lvmwire.EX)
		mustUnlock(t, s, r, lvmwire.EX, &lvmlock.Value{Version: 7})
		if v := mustLock(t, s, r, lvmwire.SH); v != (lvmlock.Value{}) {
			t.Errorf("%s has the value %+v", r.Name, v)
		}
		mustUnlock(t, s, r, lvmwire.SH, nil)
		if !bytes.Equal(others(slot), was) {
			t.Errorf("%s was locked, and another lease is written", r.Name)
		}
	}
	if err := s.Leave(ctx, false); err != nil {
		t.Fatal(err)
	}
	was := others(firstLVSlot)
	h.liveAndDie(t, "vg", order{lvs[0], lvmwire.EX})
	s = h.joinWith(t, "vg", lvmlock.JoinOptions{AdoptOnly: true})
	only := lvmlock.LockOptions{AdoptOnly: true}
	_, err := s.Lock(ctx, lvs[1], lvmwire.EX, only)
	wantResult(t, "none to adopt", err, lvmwire.AdoptNone)
	_, err = s.Lock(ctx, lvs[0], lvmwire.SH, only)
	wantResult(t, "adopt EX as SH", err, lvmwire.AdoptRetry)
	if _, err := s.Lock(ctx, lvs[0], lvmwire.EX, only); err != nil {
		t.Errorf("adopt: %v", err)
	}
	mustUnlock(t, s, lvs[0], lvmwire.EX, nil)
	if !bytes.Equal(others(firstLVSlot), was) {
		t.Error("an LV was adopted, and another lease is written")
	}
}
