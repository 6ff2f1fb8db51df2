package lvmlock_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenurelock/tenure/daemon/lvmlock"
	"github.com/tenurelock/tenure/daemon/lvmlock/fake"
	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// lv is a request for a lock of an LV.
func lv(vg, uuid, mode, opts string) string {
	return "lock_lv cmd=lvchange mode=" + mode + " opts=" + opts + " vg_name=" + vg + " lv_name=l lv_uuid=" + uuid +
		" lv_lock_args=1.0.0:70254592"
}

func TestSlowLockKeepsNobodyElse(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newHooked(lvmwire.Sanlock)
		h := newHost(t, m)
		h.start(1, "vg", "sanlock")
		h.want(1, lv("vg", "u2", "ex", "persistent"), "0 sanlock")
		release := m.hold("lock u1")
		h.send(2, lv("vg", "u1", "ex", "persistent"))
		h.want(1, "lock_vg vg_name=vg mode=ex", "0 sanlock")
		h.want(1, lv("vg", "u2", "un", "persistent"), "0 sanlock")
		h.want(1, "query_lock_lv vg_name=vg lv_uuid=u2", "0 sanlock mode=un")
		if got := h.heard(); len(got) != 0 {
			t.Errorf("the slow lock was answered: %q", got)
		}
		release()
		synctest.Wait()
		if got := strings.Join(h.heard(), ","); got != "2 lock_lv: 0 sanlock" {
			t.Errorf("the slow lock ended with %q", got)
		}
	})
}

func TestStartTwice(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newHooked(lvmwire.Sanlock)
		h := newHost(t, m)
		start := "start_vg vg_name=vg vg_lock_type=sanlock vg_lock_args=1.0.0:lvmlock vg_uuid=u host_id=1 opts="
		join, leave := m.hold("join lvm_vg"), m.hold("leave lvm_vg")
		h.want(1, start+"none", "0 sanlock")
		h.want(2, start+"none", "-211 sanlock")
		h.want(2, "lock_vg vg_name=vg mode=un", "-211 sanlock")
		join()
		h.want(2, "start_wait", "0")
		h.want(2, start+"none", "-17 sanlock")
		h.send(1, "stop_vg vg_name=vg")
		h.want(2, start+"none", "-11 sanlock")
		h.want(2, "stop_vg vg_name=vg", "-116")
		h.want(2, "lock_vg vg_name=vg mode=sh", "-210 sanlock")
		if got := h.heard(); len(got) != 0 {
			t.Errorf("stop was answered before the lockspace was left: %q", got)
		}
		leave()
		synctest.Wait()
		if got := strings.Join(h.heard(), ","); got != "1 stop_vg: 0" {
			t.Errorf("stop: %q", got)
		}
		h.want(2, start+"none", "0 sanlock")
	})
}

func TestStartFails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newHooked(lvmwire.Sanlock)
		h := newHost(t, m)
		start := "start_vg vg_name=vg vg_lock_type=sanlock vg_lock_args=x vg_uuid=u host_id=1 opts="
		m.fail("prepare lvm_vg", lvmwire.BadArgs)
		h.want(1, start+"none", "-212 sanlock")
		h.want(1, "lock_vg vg_name=vg mode=sh", "-210 NO_LOCKSPACES,NO_GL_LS")
		h.want(1, "start_wait", "0")
		m.on("prepare lvm_vg", nil)
		m.fail("join lvm_vg", lvmwire.Exists)
		h.want(1, start+"none", "0 sanlock")
		h.want(2, "start_wait", "0")
		h.want(1, "lock_vg vg_name=vg mode=sh", "-210 NO_LOCKSPACES,NO_GL_LS")
		h.want(1, "start_wait", "-17")
		h.want(1, "start_wait", "0")
		h.want(2, start+"wait", "-17 sanlock")
		if n := m.count("leave lvm_vg"); n != 2 {
			t.Errorf("what Prepare opened was closed %d times, want 2", n)
		}
		h.want(1, "start_vg vg_name=vg vg_lock_type=idm", "-93 idm")
	})
}

func TestStopWhileLocking(t *testing.T) {
	for _, c := range []struct{ how, lock, stop string }{
		{"stop_vg vg_name=vg", "2 lock_lv: 0 sanlock", "1 stop_vg: -16"},
		{"stop_vg vg_name=vg opts=force", "2 lock_lv: -210 sanlock", "1 stop_vg: 0"},
		{"drop_vg vg_name=vg", "2 lock_lv: -210 sanlock", "1 drop_vg: 0 sanlock"},
	} {
		bubble(t, func(t *testing.T) {
			m := newHooked(lvmwire.Sanlock)
			h := newHost(t, m)
			other := newHost(t, m.Host(2))
			h.start(1, "vg", "sanlock")
			other.start(1, "vg", "sanlock")
			release := m.hold("lock u1")
			h.send(2, lv("vg", "u1", "ex", "persistent"))
			h.send(1, c.how)
			if got := h.heard(); len(got) != 0 {
				t.Errorf("%s: answered while it is not known whether the LV is locked: %q", c.how, got)
			}
			release()
			synctest.Wait()
			got := strings.Join(h.heard(), "\n")
			if !strings.Contains(got, c.lock) || !strings.Contains(got, c.stop) {
				t.Errorf("%s: got %q, want %q and %q", c.how, got, c.lock, c.stop)
			}
			want := "0 sanlock"
			if strings.HasSuffix(c.stop, "-16") {
				want = "-11 sanlock"
			}
			other.want(1, lv("vg", "u1", "ex", "persistent"), want)
		})
	}
}

func TestStopThatIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newHooked(lvmwire.Sanlock)
		h := newHost(t, m)
		h.start(1, "vg", "sanlock")
		m.fail("leave lvm_vg", lvmwire.Busy)
		h.want(1, "lock_vg vg_name=vg mode=sh", "0 sanlock")
		h.want(1, "stop_vg vg_name=vg", "-16")
		h.want(1, "lock_vg vg_name=vg mode=ex", "0 sanlock")
		m.fail("leave lvm_vg", lvmwire.ManagerError)
		h.want(1, "stop_vg vg_name=vg", "-221")
		h.want(1, "stop_vg vg_name=vg", "-210 NO_LOCKSPACES,NO_GL_LS")
	})
}

func TestOtherHosts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newHooked(lvmwire.Sanlock)
		h := newHost(t, m)
		h.start(1, "vg", "sanlock")
		for _, op := range []string{"busy_vg", "free_vg", "rename_vg_before"} {
			m.fail("hosts lvm_vg", lvmwire.Perm)
			h.want(1, op+" vg_name=vg", "-1 sanlock")
			m.fail("hosts lvm_vg", lvmwire.Refused)
			h.want(1, op+" vg_name=vg", "-111 sanlock")
		}
		if n := m.count("leave lvm_vg"); n != 0 {
			t.Errorf("the lockspace was left although other hosts were not known")
		}
	})
}

// TestClientDies lets a client go away at every moment of its requests. Whatever it had for itself is free
// then, and an LV lock that it was not told of too.
func TestClientDies(t *testing.T) {
	for _, mode := range []string{"sh", "ex"} {
		for _, opts := range []string{"none", "persistent"} {
			bubble(t, func(t *testing.T) {
				m := newHooked(lvmwire.Sanlock)
				h := newHost(t, m)
				other := newHost(t, m.Host(2))
				h.start(1, "vg", "sanlock")
				other.start(1, "vg", "sanlock")

				release := m.hold("lock u1") // while the lock manager is asked
				h.send(3, lv("vg", "u1", mode, opts))
				h.gone(3)
				other.want(1, "lock_vg vg_name=vg mode=un", "-2 sanlock")
				release()
				synctest.Wait()
				m.on("lock u1", nil)
				other.want(1, lv("vg", "u1", "ex", "none"), "0 sanlock")
				other.want(1, lv("vg", "u1", "un", "none"), "0 sanlock")

				h.ask(4, lv("vg", "u1", mode, opts)) // before the answer was written
				h.client(4).Undelivered()
				h.gone(4)
				other.want(1, lv("vg", "u1", "ex", "none"), "0 sanlock")
				other.want(1, lv("vg", "u1", "un", "none"), "0 sanlock")

				h.ask(5, lv("vg", "u1", mode, opts)) // after it
				h.gone(5)
				want := map[string]string{"none": "0 sanlock", "persistent": "-11 sanlock"}[opts]
				other.want(1, lv("vg", "u1", "ex", "none"), want)
			})
		}
	}
}

// TestClientDiesUnnoticed lets a persistent lock be granted to a client that is gone, before anybody saw it
// go.
func TestClientDiesUnnoticed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHost(t, newHooked(lvmwire.Sanlock))
		h.start(1, "vg", "sanlock")
		h.client(2).DoUnheard("vg", request(t, lv("vg", "u1", "ex", "persistent")))
		synctest.Wait()
		h.want(1, "query_lock_lv vg_name=vg lv_uuid=u1", "0 sanlock mode=un")
	})
}

// TestClientDiesBeforeItsRequest closes a client whose request is still on its way to the lockspace.
func TestClientDiesBeforeItsRequest(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHost(t, newHooked(lvmwire.Sanlock))
		h.start(1, "vg", "sanlock")
		c := h.client(2)
		h.gone(2)
		c.DoUnheard("vg", request(t, "lock_vg vg_name=vg mode=ex"))
		h.want(1, "lock_vg vg_name=vg mode=ex", "0 sanlock")
	})
}

// TestFreeTheOnlyVG takes the global lock with it, and there is no VG left that could miss it.
func TestFreeTheOnlyVG(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHost(t, newHooked(lvmwire.Sanlock))
		h.want(1, initVG("vg", "none"), "0 vg=1.0.0:lvmlock")
		h.start(1, "vg", "sanlock")
		h.want(1, "free_vg vg_name=vg", "0 sanlock")
		h.want(1, initVG("vg", "none"), "0 vg=1.0.0:lvmlock")
		h.start(1, "vg", "sanlock")
		h.want(1, "lock_gl mode=ex vg_lock_type=none", "0 sanlock")
	})
}

func TestClientDiesWaiting(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHost(t, newHooked(lvmwire.Sanlock))
		h.start(1, "vg", "sanlock")
		h.want(1, "lock_vg vg_name=vg mode=ex", "0 sanlock")
		h.send(2, "lock_vg vg_name=vg mode=ex")
		h.send(3, "lock_vg vg_name=vg mode=ex")
		h.gone(2)
		h.gone(1)
		if got := strings.Join(h.heard(), ","); got != "3 lock_vg: 0 sanlock" {
			t.Errorf("the next in the queue heard %q", got)
		}
	})
}

func TestUndeliveredButWanted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newHooked(lvmwire.Sanlock)
		h := newHost(t, m)
		h.start(1, "vg", "sanlock")
		h.want(2, lv("vg", "u1", "ex", "persistent"), "0 sanlock")
		h.want(3, lv("vg", "u1", "ex", "none"), "0 sanlock")
		h.client(2).Undelivered()
		h.gone(2)
		h.want(3, "query_lock_lv vg_name=vg lv_uuid=u1", "0 sanlock mode=ex")
	})
}

func TestContextEnds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHost(t, newHooked(lvmwire.Sanlock))
		h.start(1, "vg", "sanlock")
		h.want(1, "lock_vg vg_name=vg mode=ex", "0 sanlock")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		c := h.engine.Connect(7, 7)
		if r := c.Do(ctx, request(t, "lock_vg vg_name=vg mode=ex")); r.Result != lvmwire.Canceled {
			t.Errorf("a request whose context ended: %d", r.Result)
		}
		h.want(1, "lock_vg vg_name=vg mode=un", "0 sanlock")
		h.want(2, "lock_vg vg_name=vg mode=ex", "0 sanlock")
		if r := c.Do(t.Context(), request(t, "lock_vg vg_name=vg mode=ex")); r.Result != lvmwire.Canceled {
			t.Errorf("a request of a closed client: %d", r.Result)
		}
	})
}

func TestEngineCloses(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newHooked(lvmwire.Sanlock)
		h := newHost(t, m)
		h.start(1, "vg", "sanlock")
		h.want(1, lv("vg", "u1", "ex", "persistent"), "0 sanlock")
		h.want(1, "lock_vg vg_name=vg mode=ex", "0 sanlock")
		m.hold("lock u2")
		m.hold("join lvm_vg2")
		h.send(2, "lock_vg vg_name=vg mode=ex")
		h.send(3, lv("vg", "u2", "ex", "persistent"))
		h.send(4, "start_vg vg_name=vg2 vg_lock_type=sanlock vg_lock_args=1.0.0:lvmlock host_id=1 opts=wait")
		h.send(5, "start_wait")
		h.engine.Close()
		synctest.Wait()
		got := h.heard()
		if len(got) != 4 {
			t.Errorf("answered when the engine closed: %q, want 4 answers", got)
		}
		for _, a := range got {
			if !strings.Contains(a, ": -125") {
				t.Errorf("%q, want Canceled", a)
			}
		}
		if n := m.count("leave lvm_vg"); n != 0 {
			t.Errorf("Close left the lockspace")
		}
	})
}

func TestKill(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newHooked(lvmwire.Sanlock)
		h := newHost(t, m)
		other := newHost(t, m.Host(2))
		h.start(1, "vg", "sanlock")
		other.start(1, "vg", "sanlock")
		h.want(1, lv("vg", "u1", "ex", "persistent"), "0 sanlock")
		h.want(1, "lock_vg vg_name=vg mode=ex", "0 sanlock")
		h.send(2, "lock_vg vg_name=vg mode=sh")
		h.want(3, "kill_vg vg_name=vg", "0 sanlock")
		if got := strings.Join(h.heard(), ","); got != "2 lock_vg: -217 sanlock" {
			t.Errorf("who waited when the VG was killed heard %q", got)
		}
		for _, op := range []string{
			"lock_vg mode=sh", "lock_lv mode=ex lv_uuid=u2", "vg_update version=3", "rename_vg_before", "query_lock_vg",
			"find_free_lock", "enable_gl", "disable_gl",
		} {
			name, rest, _ := strings.Cut(op, " ")
			if r := h.ask(3, name+" vg_name=vg "+rest); r.Result != lvmwire.VGKilled {
				t.Errorf("%s in a killed VG: %d", op, r.Result)
			}
		}
		h.want(1, "lock_vg vg_name=vg mode=un", "0 sanlock")
		h.want(3, "stop_vg vg_name=vg", "-16")
		other.want(1, lv("vg", "u1", "ex", "none"), "-11 sanlock")
		h.want(3, "drop_vg vg_name=vg", "0 sanlock")
		other.want(1, lv("vg", "u1", "ex", "none"), "0 sanlock")
	})
}

func TestBearableAnswers(t *testing.T) {
	good := map[lvmwire.Result]bool{0: true, -114: true, -210: true, -211: true, -217: true, -218: true, -11: true}
	bubble(t, func(t *testing.T) {
		m := newHooked(lvmwire.DLM)
		h := newHost(t, m)
		h.want(1, "lock_gl mode=sh vg_lock_type=none", "0 dlm")
		h.want(1, "lock_gl mode=un vg_lock_type=none", "0 dlm")
		for r := lvmwire.Result(-1); r >= -230; r-- {
			m.fail("lock GLLK", r)
			got := h.ask(1, "lock_gl mode=sh vg_lock_type=none")
			if !good[got.Result] {
				t.Errorf("GL sh when the lock manager says %d: %d, which ends vgs", r, got.Result)
			}
			if got.Result == lvmwire.NoLockspace && !strings.Contains(got.Flags, "NO_GL_LS") {
				t.Errorf("GL sh when the lock manager says %d: -210 with flags %q, which ends vgs", r, got.Flags)
			}
			if got := h.ask(1, "lock_gl mode=ex vg_lock_type=none"); got.Result != r && r != lvmwire.Unattached {
				t.Errorf("GL ex when the lock manager says %d: %d", r, got.Result)
			}
		}
	})
}

func TestStopAllWaits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHost(t, newHooked(lvmwire.DLM))
		h.start(1, "vg1", "dlm")
		h.start(1, "vg2", "dlm")
		h.want(1, lv("vg1", "u1", "ex", "persistent"), "0 dlm")
		h.want(2, "lock_gl mode=ex vg_lock_type=none", "0 dlm")
		h.want(3, "stop_all opts=none", "3")
		begin := time.Now()
		h.send(3, "stop_all opts=wait")
		h.want(1, lv("vg1", "u1", "un", "persistent"), "0 dlm")
		if got := h.heard(); len(got) != 0 || h.engine.Quit() {
			t.Errorf("stop_all was answered while the global lock is held: %q", got)
		}
		h.gone(2)
		if got := strings.Join(h.heard(), ","); got != "3 stop_all: 0" {
			t.Errorf("stop_all wait: %q", got)
		}
		if d := time.Since(begin); d != 0 {
			t.Errorf("it took %v: somebody polls", d)
		}
		if !h.engine.Quit() {
			t.Errorf("the engine may not quit")
		}
	})
}

// TestStopAllForced ends what is held and what is waited for, the global lock too.
func TestStopAllForced(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newHooked(lvmwire.DLM)
		h := newHost(t, m)
		h.start(1, "vg1", "dlm")
		h.want(1, lv("vg1", "u1", "ex", "persistent"), "0 dlm")
		h.want(1, "lock_gl mode=ex vg_lock_type=none", "0 dlm")
		release := m.hold("leave lvm_vg1") // else the VG is gone before it is the global lock's turn
		h.send(2, "lock_gl mode=ex vg_lock_type=none")
		h.want(3, "stop_all opts=force", "2")
		if got := strings.Join(h.heard(), ","); got != "2 lock_gl: -125 dlm" {
			t.Errorf("who waited for the global lock: %q", got)
		}
		release()
		synctest.Wait()
		if !h.engine.Quit() {
			t.Error("the engine may not quit")
		}
	})
}

func TestShutdown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHost(t, newHooked(lvmwire.DLM))
		h.start(1, "vg1", "dlm")
		h.start(1, "vg2", "dlm")
		h.want(1, lv("vg1", "u1", "ex", "persistent"), "0 dlm")
		if n := h.engine.Shutdown(t.Context()); n != 2 {
			t.Errorf("%d lockspaces remain, want vg1's and that of the global lock", n)
		}
		h.want(1, lv("vg1", "u1", "un", "persistent"), "0 dlm")
		if n := h.engine.Shutdown(t.Context()); n != 0 {
			t.Errorf("%d lockspaces remain, want none", n)
		}
	})
}

// TestShutdownWhileKilled: the lock manager's SIGTERMs for a VG that has lost its storage are no reason to stop others.
func TestShutdownWhileKilled(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newFake(lvmwire.Sanlock)
		h := newHost(t, m)
		h.start(1, "vg", "sanlock")
		h.start(1, "other", "sanlock")
		h.want(1, lv("vg", "u1", "ex", "persistent"), "0 sanlock")
		m.Lose("lvm_vg")
		synctest.Wait()
		if n := h.engine.Shutdown(t.Context()); n != 2 {
			t.Errorf("%d lockspaces remain, want both", n)
		}
		h.want(1, "lock_vg vg_name=other mode=ex", "0 sanlock")
		h.want(1, "lock_vg vg_name=other mode=un", "0 sanlock")
		h.want(1, "drop_vg vg_name=vg", "0 sanlock")
		if n := h.engine.Shutdown(t.Context()); n != 0 {
			t.Errorf("%d lockspaces remain, want none", n)
		}
	})
}

func TestConfig(t *testing.T) {
	for _, c := range []lvmlock.Config{
		{},
		{Managers: []lvmlock.LockManager{newFake(lvmwire.DLM), newFake(lvmwire.DLM)}},
		{Managers: []lvmlock.LockManager{newFake(lvmwire.DLM)}, GL: lvmwire.Sanlock},
		{Managers: []lvmlock.LockManager{newFake(lvmwire.DLM)}, Dialect: 17},
	} {
		if _, err := lvmlock.New(c); err == nil {
			t.Errorf("%+v was accepted", c)
		}
	}
}

func TestLost(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newFake(lvmwire.Sanlock)
		h := newHost(t, m)
		h.start(1, "vg", "sanlock")
		h.want(1, lv("vg", "u1", "ex", "persistent"), "0 sanlock")
		m.Lose("lvm_vg")
		synctest.Wait()
		h.want(1, lv("vg", "u2", "ex", "persistent"), "-217 sanlock")
		h.want(1, "lock_vg vg_name=vg mode=un", "-2 sanlock")
		h.want(1, "stop_vg vg_name=vg", "-16")
		h.want(1, "drop_vg vg_name=vg", "0 sanlock")
		if !strings.Contains(h.log.String(), "the lock manager lost the lockspace") {
			t.Error("nothing in the log")
		}
	})
}

// TestInfoNamesTheOwner wants to read who stands in the way, and for how long.
func TestInfoNamesTheOwner(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newHooked(lvmwire.Sanlock)
		h := newHost(t, m)
		h.start(1, "vg", "sanlock")
		m.on("lock u1", func(context.Context, func() error) error {
			return &lvmlock.Error{Op: "lock", What: "u1", Result: lvmwire.Again, Wait: 79, Owner: lvmwire.Owner{
				HostID: 7, Generation: 3, State: "FAIL", Name: "node \"7\"\n",
			}}
		})
		r := h.want(1, lv("vg", "u1", "ex", "persistent"), "-11 sanlock")
		if r.Owner.HostID != 7 || r.Owner.Name != "node _7__" {
			t.Errorf("the reply names %+v", r.Owner)
		}
		time.Sleep(9 * time.Second)
		h.want(1, "lock_vg vg_name=vg mode=ex cmd=lvcreate", "0 sanlock")
		h.send(2, "lock_vg vg_name=vg mode=ex cmd=vgs")
		info := string(h.engine.Info(lvmwire.Dialect40))
		for _, want := range []string{
			"info=client pid=1001 fd=1 pi=0 id=1 name=lvchange\n",
			"info=r_action client_id=2 flags=0x0 version=0 op=lock rt=vg mode=ex lm_type=sanlock result=0 lm_rv=0 " +
				"owner_host_id=0 owner_generation=0\n",
			"info=blocked ls_name=lvm_vg name=u1 type=lv mode=ex by=host result=-11 owner_host_id=7 owner_name=node__7__ " +
				"owner_generation=3 owner_state=FAIL free_in_s=70 refused=1 ago_s=9\n",
			"info=blocked ls_name=lvm_vg name=VGLK type=vg mode=ex client_id=2 by=local pid=1001 cmd=lvchange holds=ex\n",
		} {
			if !strings.Contains(info, want) {
				t.Errorf("the dump lacks %q; it is\n%s", want, info)
			}
		}
		for line := range strings.Lines(info) {
			for word := range strings.FieldsSeq(line) {
				if !strings.Contains(word, "=") {
					t.Errorf("%q is no key=value", word)
				}
			}
		}
		for _, want := range []string{`"host":7`, `"gen":3`, `"host_name":"node \"7\"\n"`, `"free_in_s":79`} {
			if !strings.Contains(h.log.String(), want) {
				t.Errorf("the log lacks %s", want)
			}
		}
		m.on("lock u1", nil)
		h.want(1, lv("vg", "u1", "ex", "persistent"), "0 sanlock")
		if info := string(h.engine.Info(lvmwire.Dialect40)); strings.Contains(info, "name=u1 type=lv mode=ex by=host") {
			t.Errorf("the dump still tells of a refusal:\n%s", info)
		}
	})
}

// TestManyCalls has more LVs locked at once than calls may be under way.
func TestManyCalls(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newHooked(lvmwire.Sanlock)
		h := newHost(t, m)
		h.start(1, "vg", "sanlock")
		var mu sync.Mutex
		now, most := 0, 0
		for i := range 100 {
			m.on(fmt.Sprintf("lock n%d", i), func(_ context.Context, call func() error) error {
				mu.Lock()
				now++
				most = max(most, now)
				mu.Unlock()
				time.Sleep(time.Second)
				mu.Lock()
				now--
				mu.Unlock()
				return call()
			})
			h.send(100+i, lv("vg", fmt.Sprintf("n%d", i), "ex", "persistent"))
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		for _, got := range h.heard() {
			if !strings.HasSuffix(got, ": 0 sanlock") {
				t.Errorf("got %q", got)
			}
		}
		if most != 32 {
			t.Errorf("%d calls at once, want 32", most)
		}
		h.want(1, "stop_vg vg_name=vg opts=force", "0")
	})
}

func TestTooManyClients(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHost(t, newHooked(lvmwire.Sanlock))
		for range 4096 {
			h.engine.Connect(1, 1)
		}
		c := h.engine.Connect(1, 1)
		if r := c.Do(t.Context(), request(t, "start_wait")); r.Result != lvmwire.NoMemory {
			t.Errorf("client 4097: %d", r.Result)
		}
	})
}

// TestSlotsOneAtATime has two commands use the places of LV locks at once.
func TestSlotsOneAtATime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newHooked(lvmwire.Sanlock)
		h := newHost(t, m)
		h.start(1, "vg", "sanlock")
		args := " vg_name=vg vg_lock_type=sanlock vg_lock_args=1.0.0:lvmlock lv_uuid="
		h.want(1, "init_lv"+args+"u1", "0 vg=1.0.0:lvmlock lv=1.0.0:70254592")
		h.want(1, "free_lv"+args+"u1", "0 sanlock vg=1.0.0:lvmlock")
		h.want(1, "init_lv vg_name=vg vg_lock_type=dlm lv_uuid=u2", "-22")
		h.want(1, "init_lv vg_name=vg vg_lock_type=sanlock vg_lock_args=1.0.0:lvmlock", "-22")
		h.want(1, "init_lv"+strings.Replace(args, "=vg ", "=other ", 1)+"u3", "0 vg=1.0.0:lvmlock lv=1.0.0:71303168")
		h.want(1, "find_free_lock vg_name=nosuch", "-210")
	})
}

// TestFreeAfterTheHolder frees an LV while another command that locked it goes away: Debian's first does what the end
// of that connection asks for.
func TestFreeAfterTheHolder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newHooked(lvmwire.Sanlock)
		h := newHost(t, m)
		h.start(1, "vg", "sanlock")
		const free = "free_lv vg_name=vg vg_lock_type=sanlock lv_uuid=u1 lv_lock_args=1.0.0:70254592"
		heard := func(when, want string, took time.Duration, begin time.Time) {
			t.Helper()
			if got := strings.Join(h.heard(), ","); got != want || time.Since(begin) != took {
				t.Errorf("%s: %q after %v, want %q after %v", when, got, time.Since(begin), want, took)
			}
		}
		h.want(2, lv("vg", "u1", "sh", "none"), "0 sanlock")
		h.send(1, free)
		heard("the holder is there", "", 0, time.Now())
		h.gone(2)
		heard("the holder went", "1 free_lv: 0 sanlock", 0, time.Now())

		h.want(2, lv("vg", "u1", "ex", "none"), "0 sanlock")
		release := m.hold("unlock u1")
		h.gone(2)
		begin := time.Now()
		h.send(1, free)
		h.send(3, free)
		time.Sleep(10 * time.Second)
		heard("it is being unlocked", "", 10*time.Second, begin)
		release()
		synctest.Wait()
		heard("it was unlocked", "3 free_lv: 0 sanlock,1 free_lv: 0 sanlock", 10*time.Second, begin)
		m.on("unlock u1", nil)

		h.want(2, lv("vg", "u1", "ex", "none"), "0 sanlock")
		begin = time.Now()
		h.want(1, free, "-16 sanlock")
		heard("the holder stays", "", time.Second, begin)
		begin = time.Now()
		unlocked := m.count("unlock u1")
		h.want(2, free, "0 sanlock") // by the holder itself
		if got := m.count("unlock u1") - unlocked; got != 1 {
			t.Errorf("the lock was given back %d times before its place", got)
		}
		h.want(2, lv("vg", "u1", "ex", "persistent"), "0 sanlock")
		h.want(1, free, "-16 sanlock")
		heard("refused at once", "", 0, begin)
	})
}

// TestFreeKeepsTheLock lets the client die while its VG is being removed. The lock manager marks the lock as
// removed when it leaves, for which it must still be held.
func TestFreeKeepsTheLock(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newHooked(lvmwire.Sanlock)
		h := newHost(t, m)
		h.start(1, "vg", "sanlock")
		h.want(1, "lock_vg vg_name=vg mode=ex", "0 sanlock")
		release := m.hold("leave lvm_vg")
		h.send(1, "free_vg vg_name=vg")
		h.gone(1)
		if n := m.count("unlock VGLK"); n != 0 {
			t.Errorf("the VG lock was given back %d times before the lockspace was left", n)
		}
		release()
		synctest.Wait()
		if !h.engine.Quit() {
			t.Error("the lockspace is still there")
		}
	})
}

// TestStopAllSeesSlots stops everything while an LV's place is being freed.
func TestStopAllSeesSlots(t *testing.T) {
	bubble(t, func(t *testing.T) {
		slow := false
		m := fake.New(fake.Config{Type: lvmwire.Sanlock, Fault: func(op fake.Op) fake.Fault {
			if slow && op.Name == "find_free" {
				return fake.Fault{Before: time.Second}
			}
			return fake.Fault{}
		}})
		h := newHost(t, m)
		h.start(1, "vg", "sanlock")
		slow = true
		h.send(2, "find_free_lock vg_name=vg")
		begin := time.Now()
		h.want(1, "stop_all opts=wait", "0")
		if d := time.Since(begin); d > time.Second {
			t.Errorf("stopped after %v", d)
		}
	})
}

// TestGlobalLost has the lockspace of dlm's global lock fail: the next that needs it gets a new one.
func TestGlobalLost(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newFake(lvmwire.DLM)
		h := newHost(t, m)
		h.start(1, "vg", "dlm")
		h.want(1, "lock_gl mode=ex vg_lock_type=none", "0 dlm")
		m.Lose("lvm_global")
		synctest.Wait()
		h.want(2, "lock_gl mode=ex vg_lock_type=none", "0 dlm")
		h.want(2, "lock_vg vg_name=vg mode=ex", "0 dlm")
	})
}

// TestGlobalGoesWithTheLastVG has the lockspace of dlm's global lock come later than the VG it is for went.
func TestGlobalGoesWithTheLastVG(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newHooked(lvmwire.DLM)
		h := newHost(t, m)
		h.start(1, "vg1", "dlm")
		release := m.hold("leave lvm_global")
		h.want(1, "stop_vg vg_name=vg1", "0")
		m.fail("prepare lvm_vg2", lvmwire.BadArgs)
		h.want(1, "start_vg vg_name=vg2 vg_lock_type=dlm vg_lock_args=1.0.0:test", "-212 dlm")
		if h.engine.Quit() {
			t.Fatal("lvm_global is not being left: the test shows nothing")
		}
		release()
		synctest.Wait()
		if n := m.count("join lvm_global"); n != 2 || !h.engine.Quit() {
			t.Errorf("lvm_global was joined %d times, and may quit: %t", n, h.engine.Quit())
		}
	})
}

// TestGlobalStartsWithTheVG has lvm_global still be left when a VG is started: who waits for the start waits for it too.
func TestGlobalStartsWithTheVG(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newHooked(lvmwire.DLM)
		h := newHost(t, m)
		h.start(1, "vg1", "dlm")
		release := m.hold("leave lvm_global")
		h.want(1, "stop_vg vg_name=vg1", "0")
		h.want(1, "start_vg vg_name=vg2 vg_lock_type=dlm vg_lock_args=1.0.0:test", "0 dlm")
		h.send(1, "start_wait")
		synctest.Wait()
		if got := h.heard(); len(got) != 0 {
			t.Errorf("%q, and lvm_global is not started", got)
		}
		release()
		synctest.Wait()
		if got := strings.Join(h.heard(), ","); got != "1 start_wait: 0" {
			t.Errorf("start_wait: %q", got)
		}
		h.want(1, "lock_gl mode=ex vg_lock_type=none", "0 dlm")
	})
}

// TestLeaveRefused has the lock manager need the lockspaces for some time: they are tried again, but not all the time.
func TestLeaveRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newHooked(lvmwire.DLM)
		h := newHost(t, m)
		h.start(1, "vg", "dlm")
		m.fail("leave lvm_vg", lvmwire.Busy)
		m.fail("leave lvm_global", lvmwire.Busy)
		h.want(1, "stop_vg vg_name=vg", "-16")
		h.want(1, "lock_vg vg_name=vg mode=ex", "0 dlm")
		h.gone(1)
		h.send(2, "stop_all opts=wait")
		time.Sleep(10*time.Second + time.Millisecond)
		if n := m.count("leave lvm_vg"); n < 5 || n > 15 {
			t.Errorf("stop_all tried %d times in 10 s", n)
		}
		m.on("leave lvm_vg", nil)
		time.Sleep(2 * time.Second)
		h.gone(2)
		before := m.count("leave lvm_global")
		time.Sleep(10 * time.Second)
		if n := m.count("leave lvm_global") - before; n < 5 || n > 15 {
			t.Errorf("lvm_global, alone, was tried %d times in 10 s", n)
		}
		m.on("leave lvm_global", nil)
		time.Sleep(2 * time.Second)
		if !h.engine.Quit() {
			t.Error("lockspaces are still there")
		}
	})
}
