package native

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurelock/tenure/daemon/client"
	"github.com/tenurelock/tenure/daemon/lvmlock"
	"github.com/tenurelock/tenure/daemon/lvmwire"
	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
)

// TestAdopt: an lvmlockd that is killed leaves its lockspace and its leases, which block others and can be
// taken over by the next, one by one and in the right mode.
func TestAdopt(t *testing.T) {
	t.Parallel()
	for _, k := range kinds {
		t.Run(string(k), func(t *testing.T) {
			t.Parallel()
			h := start(t, k, 3, disks(t, 80*mib, "vg"))
			h.format(t, "vg", true)
			lv := func(i int64) lvmlock.Resource {
				return lvmlock.Resource{Kind: lvmwire.LV, Name: uuid(int(i)), Args: lvArgs((firstLVSlot + i) * mib)}
			}
			for i := range int64(3) {
				args, err := h.InitLV(t.Context(), h.vg("vg"), nil, uuid(int(i)), "")
				if err != nil || args != lv(i).Args {
					t.Fatalf("InitLV: %q, %v", args, err)
				}
			}
			h.liveAndDie(t, "vg", order{lv(0), lvmwire.EX}, order{lv(1), lvmwire.SH}, order{groupLock, lvmwire.SH})
			// It has told the daemon that the lockspace is not to go as long as there are orphans.
			var state string
			err := h.ask(t.Context(), func(c *client.Conn) error {
				return c.Status(t.Context(), sanlockwire.StatusLockspaces, func(st sanlockwire.State) error {
					if st.Type == sanlockwire.StateLockspace {
						state = st.Text
					}
					return nil
				})
			})
			if err != nil || number(state, "used_by_orphans") != 1 {
				t.Errorf("the lockspace is not used by orphans: %v, %q", err, state)
			}
			h.refuseJoin(t)
			s := h.joinWith(t, "vg", lvmlock.JoinOptions{AdoptOnly: true})
			try := func(what string, r lvmlock.Resource, m lvmwire.Mode, o lvmlock.LockOptions, want lvmwire.Result) {
				t.Helper()
				_, err := s.Lock(t.Context(), r, m, o)
				if want == lvmwire.OK && err != nil || want != lvmwire.OK && err == nil {
					t.Errorf("%s: %v, want %d", what, err, want)
				}
				if err != nil {
					wantResult(t, what, err, want)
				}
			}
			only := lvmlock.LockOptions{AdoptOnly: true}
			try("an orphan, not adopted", lv(0), lvmwire.EX, lvmlock.LockOptions{}, lvmwire.Orphan)
			try("EX adopted as SH", lv(0), lvmwire.SH, only, lvmwire.AdoptRetry)
			try("SH adopted as EX", lv(1), lvmwire.EX, lvmlock.LockOptions{Adopt: true}, lvmwire.AdoptRetry)
			try("SH adopted as EX", lv(1), lvmwire.EX, only, lvmwire.AdoptRetry)
			try("none to adopt", lv(2), lvmwire.EX, only, lvmwire.AdoptNone)
			try("no VG lock to adopt in EX", groupLock, lvmwire.EX, only, lvmwire.AdoptRetry)
			try("no global lock to adopt", globalLock, lvmwire.SH, only, lvmwire.AdoptNone)
			mustLock(t, s, lv(2), lvmwire.EX)
			wantResult(t, "leave with orphans", s.Leave(t.Context(), false), lvmwire.Busy)
			if held, err := s.hold.Inquire(t.Context(), client.Self); err != nil || len(held) != 1 {
				t.Errorf("after that was refused we hold %v, %v; want one lease as before", held, err)
			}
			mustUnlock(t, s, lv(2), lvmwire.EX, nil)
			try("EX adopted", lv(0), lvmwire.EX, only, lvmwire.OK)
			try("SH adopted", lv(1), lvmwire.SH, lvmlock.LockOptions{Adopt: true}, lvmwire.OK)
			try("none, but one is wanted", lv(2), lvmwire.EX, lvmlock.LockOptions{Adopt: true}, lvmwire.OK)
			try("VG lock adopted", groupLock, lvmwire.SH, only, lvmwire.OK)
			mustUnlock(t, s, lv(0), lvmwire.EX, nil)
			mustLock(t, s, lv(0), lvmwire.EX)
			if err := s.Leave(t.Context(), false); err != nil {
				t.Error(err)
			}
			if names, err := h.Lockspaces(t.Context()); err != nil || len(names) != 0 {
				t.Errorf("after leaving: lockspaces %q, %v", names, err)
			}
		})
	}
}

// TestAdoptFile: a file that Debian's lvmlockd wrote is enough to go on with what it left. It does not tell the host
// id, and the daemon has not kept the whole of a long name.
func TestAdoptFile(t *testing.T) {
	t.Parallel()
	for _, k := range kinds {
		t.Run(string(k), func(t *testing.T) {
			t.Parallel()
			vg := strings.Repeat("long", 12)
			h := start(t, k, 3, disks(t, 80*mib, vg))
			h.format(t, vg, true)
			args, err := h.InitLV(t.Context(), h.vg(vg), nil, uuid(1), "")
			if err != nil {
				t.Fatal(err)
			}
			h.liveAndDie(t, vg, order{lvmlock.Resource{Kind: lvmwire.LV, Name: uuid(1), Args: args}, lvmwire.EX})
			engine, err := lvmlock.New(lvmlock.Config{Managers: []lvmlock.LockManager{h}, Log: h.cfg.Log, Adopt: true})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(engine.Close)
			file := fmt.Sprintf("lvmlockd adopt_version 1.0 pid 4242 updates 7 Sat Nov 21 02:10:11 2026\n"+
				"VG: %s %s sanlock 1.0.0:lvmlock\nLV: %s %s %s ex 0\n", uuid(0), vg, uuid(0), uuid(1), args)
			if err := engine.Adopt(t.Context(), []byte(file)); err != nil {
				t.Error(err)
			}
			c := engine.Connect(1, 1)
			defer c.Close()
			ask := func(want lvmwire.Result, r lvmwire.Request) {
				t.Helper()
				r.VGName, r.LVUUID, r.LVArgs = vg, uuid(1), args
				if got := c.Do(t.Context(), r).Result; got != want {
					t.Errorf("request %d of %d in mode %d: %d, want %d", r.Op, r.Kind, r.Mode, got, want)
				}
			}
			ask(lvmwire.OK, lvmwire.Request{Op: lvmwire.OpLock, Kind: lvmwire.VG, Mode: lvmwire.EX})
			ask(lvmwire.Already, lvmwire.Request{
				Op: lvmwire.OpLock, Kind: lvmwire.LV, Mode: lvmwire.EX, Options: lvmwire.Persistent,
			})
			ask(lvmwire.OK, lvmwire.Request{Op: lvmwire.OpLock, Kind: lvmwire.LV, Options: lvmwire.Persistent})
			ask(lvmwire.OK, lvmwire.Request{Op: lvmwire.OpStop, Kind: lvmwire.VG})
		})
	}
}

// refuseJoin wants a join that does not adopt to fail while the lockspace is there.
func (h *host) refuseJoin(t *testing.T) {
	t.Helper()
	s, _, err := h.Prepare(t.Context(), h.vg("vg"), lvmlock.PrepareOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Join(t.Context(), lvmlock.JoinOptions{})
	wantResult(t, "join without adopting", err, lvmwire.Exists)
	if err := s.Leave(t.Context(), false); err != nil {
		t.Errorf("leave what was not joined: %v", err)
	}
	names, err := h.Lockspaces(t.Context())
	if err != nil || len(names) != 1 {
		t.Errorf("after a join that failed: lockspaces %q, %v", names, err)
	}
}

// TestAdoptNothing: who wants only what is there does not get a new lockspace.
func TestAdoptNothing(t *testing.T) {
	t.Parallel()
	h := start(t, tenure, 3, disks(t, 80*mib, "vg"))
	h.format(t, "vg", true)
	s, _, err := h.Prepare(t.Context(), h.vg("vg"), lvmlock.PrepareOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Join(t.Context(), lvmlock.JoinOptions{AdoptOnly: true}); err == nil {
		t.Error("joined what was not there to adopt")
	}
	if names, err := h.Lockspaces(t.Context()); err != nil || len(names) != 0 {
		t.Errorf("lockspaces %q, %v", names, err)
	}
	if err := s.Leave(t.Context(), false); err != nil {
		t.Error(err)
	}
}

// TestForeignLockspaces: lockspaces of others, in front of LVM's and behind, are none of ours to adopt.
func TestForeignLockspaces(t *testing.T) {
	t.Parallel()
	for _, k := range kinds {
		t.Run(string(k), func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			h := start(t, k, 1, disks(t, 70*mib, "vg", "a", "b"))
			h.format(t, "vg", true)
			foreign := func(name string) {
				l := sanlockwire.Lockspace{
					Name: leases.NameOf(name), HostID: 1, Disk: sanlockwire.Disk{Path: h.device(name, "lvmlock")},
				}
				err := h.ask(ctx, func(c *client.Conn) error {
					if err := c.WriteLockspace(ctx, l, 0, ioTimeout); err != nil {
						return err
					}
					return c.AddLockspace(ctx, l, ioTimeout, 0)
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			foreign("a")
			h.join(t, "vg")
			foreign("b")
			names, err := h.Lockspaces(ctx)
			if diff := cmp.Diff([]string{"lvm_vg"}, names); diff != "" || err != nil {
				t.Errorf("lockspaces (-want +got):\n%s%v", diff, err)
			}
		})
	}
}
