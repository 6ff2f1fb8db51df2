package lvmlock_test

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/tenurelock/tenure/daemon/lvmlock"
	"github.com/tenurelock/tenure/daemon/lvmwire"
)

func initVG(vg, opts string) string {
	return "init_vg vg_name=" + vg + " vg_lock_type=sanlock vg_lock_args=lvmlock opts=" + opts
}

func TestGlobalLockGoesToTheFirst(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newHooked(lvmwire.Sanlock)
		h := newHost(t, m)
		release := m.hold("init lvm_vg1")
		h.send(1, initVG("vg1", "none"))
		h.send(2, initVG("vg2", "none"))
		h.gone(1) // a VG is made to the end even so
		h.send(1, "start_wait")
		release()
		synctest.Wait()
		if got := h.heard(); len(got) != 2 {
			t.Fatalf("two init_vg: %q", got)
		}
		h.start(1, "vg2", "sanlock")
		h.want(1, "lock_gl mode=sh vg_lock_type=none", "-210 NO_GL_LS,")
		h.start(1, "vg1", "sanlock")
		h.want(1, "lock_gl mode=sh vg_lock_type=none", "0 sanlock")
		h.want(1, "stop_vg vg_name=vg1", "0")
		h.want(1, "lock_gl mode=sh vg_lock_type=none", "-210 NO_GL_LS,")
		h.want(1, initVG("vg3", "none"), "0 vg=1.0.0:lvmlock")
		h.want(1, initVG("vg2", "none"), "-17 vg=lvmlock")
	})
}

// TestGlobalLockTwice has the global lock enabled in two VGs, as two hosts can bring about that do not know
// of each other.
func TestGlobalLockTwice(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newHooked(lvmwire.Sanlock)
		h := newHost(t, m)
		for _, vg := range []string{"vg1", "vg2"} {
			h.want(1, initVG(vg, "enable"), "0 vg=1.0.0:lvmlock")
		}
		h.want(1, initVG("vg3", "disable"), "0 vg=1.0.0:lvmlock")
		h.start(1, "vg1", "sanlock")
		h.want(1, "lock_gl mode=sh vg_lock_type=none", "0 sanlock")
		h.want(1, "lock_vg mode=sh vg_name=vg1", "0 sanlock")
		h.gone(1)
		h.start(1, "vg2", "sanlock")
		h.start(1, "vg3", "sanlock")
		h.want(1, "lock_gl mode=sh vg_lock_type=none", "0 sanlock DUP_GL_LS,")
		h.want(1, "lock_vg mode=sh vg_name=vg1", "0 sanlock DUP_GL_LS,")
		h.want(1, "lock_vg mode=sh vg_name=vg2", "0 sanlock DUP_GL_LS,")
		h.want(1, "lock_vg mode=sh vg_name=vg3", "0 sanlock")
		h.gone(1)
		other := newHost(t, m.Host(2)) // it corrects that
		other.start(1, "vg2", "sanlock")
		other.want(1, "disable_gl vg_name=vg2", "0 sanlock")
		h.want(1, "lock_gl mode=sh vg_lock_type=none", "0 sanlock")
		h.want(1, "lock_vg mode=sh vg_name=vg1", "0 sanlock")
	})
}

// TestGlobalLockMoves has another host move the global lock while we know where it was.
func TestGlobalLockMoves(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newHooked(lvmwire.Sanlock)
		h, other := newHost(t, m), newHost(t, m.Host(2))
		h.want(1, initVG("vg1", "none"), "0 vg=1.0.0:lvmlock")
		h.start(1, "vg1", "sanlock")
		h.want(1, initVG("vg2", "none"), "0 vg=1.0.0:lvmlock")
		h.start(1, "vg2", "sanlock")
		other.start(1, "vg1", "sanlock")
		other.start(1, "vg2", "sanlock")
		other.want(1, "disable_gl vg_name=vg1", "0 sanlock")
		h.want(1, "lock_gl mode=sh vg_lock_type=none", "-210 sanlock NO_GL_LS,")
		other.want(1, "enable_gl vg_name=vg2", "0 sanlock")
		h.want(1, "lock_gl mode=sh vg_lock_type=none", "0 sanlock")
		other.want(1, "lock_gl mode=ex vg_lock_type=none", "-11 sanlock")
		h.want(1, "enable_gl vg_name=vg1", "-22 sanlock")
	})
}

// TestGlobalLockOfAVGThatNeverStarted does not stand in the way of enabling it elsewhere.
func TestGlobalLockOfAVGThatNeverStarted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newHooked(lvmwire.Sanlock)
		h := newHost(t, m)
		h.want(1, initVG("vg1", "none"), "0 vg=1.0.0:lvmlock")
		h.want(1, initVG("vg2", "none"), "0 vg=1.0.0:lvmlock")
		h.start(1, "vg2", "sanlock")
		h.want(1, "enable_gl vg_name=vg2", "0 sanlock")
		h.want(1, "lock_gl mode=ex vg_lock_type=none", "0 sanlock")
	})
}

func TestTwoManagers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHost(t, newHooked(lvmwire.Sanlock), func(c *lvmlock.Config) {
			c.Managers = append([]lvmlock.LockManager{newHooked(lvmwire.DLM)}, c.Managers...)
		})
		h.want(1, "running_lm", "-54")
		h.want(1, "lock_gl mode=ex vg_lock_type=none", "-210 NO_LOCKSPACES,NO_GL_LS")
		h.want(1, "lock_gl mode=ex vg_lock_type=sanlock", "-210 sanlock NO_LOCKSPACES,NO_GL_LS,")
		h.want(1, "lock_gl mode=ex vg_lock_type=dlm", "0 dlm")
		h.start(1, "vg", "dlm")
		h.want(1, "lock_vg vg_name=vg mode=ex vg_lock_type=sanlock", "-22 sanlock")
		h.want(1, "lock_vg vg_name=vg mode=ex vg_lock_type=idm", "-93 idm")
		h.want(1, "lock_vg vg_name=nosuch mode=ex vg_lock_type=idm", "-93 idm")
		h.start(1, "global", "sanlock") // not to be confused with dlm's lvm_global
		h.want(1, "lock_vg vg_name=global mode=ex", "0 sanlock")
		h.want(1, "lock_gl mode=sh", "0 dlm")
		h.want(1, "start_vg vg_name=global vg_lock_type=dlm vg_lock_args=1.0.0:test", "-212 dlm")
	})
}

// TestLockTypes asks with lock types that a VG does not have, that no lock manager has and that there are not. The answers
// are those of Debian's lvmlockd.
func TestLockTypes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHost(t, newHooked(lvmwire.DLM), func(c *lvmlock.Config) {
			c.Managers = append(c.Managers, newHooked(lvmwire.Sanlock))
		})
		h.want(1, "enable_gl vg_name=vg", "-210 NO_LOCKSPACES,NO_GL_LS")
		h.start(1, "vg", "dlm")
		for _, c := range []struct{ said, want string }{
			{"running_lm vg_lock_type=sanlock", "-54 sanlock"},
			{"running_lm vg_lock_type=nosuch", "-54 lm_unknown"},
			{"running_lm vg_lock_type=idm", "-93 idm"},
			{"start_wait vg_lock_type=idm", "-93 idm"},
			{"stop_all vg_lock_type=idm", "-93 idm"},
			{"query_lock_vg vg_name=vg vg_lock_type=idm", "-93 idm mode=iv"},
			{"lock_vg vg_name=vg mode=ex vg_lock_type=nosuch", "-22 lm_unknown"},
			{"lock_vg vg_name=no mode=ex vg_lock_type=nosuch", "-210 lm_unknown"},
			{"init_lv vg_name=vg lv_uuid=u vg_lock_type=none", "-22"},
			{"init_vg vg_name=vg vg_lock_type=none vg_lock_args=l", "-17 vg=l"},
			{"init_vg vg_name=no vg_lock_type=nosuch vg_lock_args=l", "-22 vg=l"},
			{"init_vg vg_name=no vg_lock_type=idm vg_lock_args=l", "-93 vg=l"},
			{"rename_vg_final vg_name=no vg_lock_type=none", "-22"},
			{"rename_vg_final vg_name=vg vg_lock_type=dlm", "-16 dlm"},
			{"start_vg vg_name=vg vg_lock_type=none", "-17"},
			{"start_vg vg_name=no vg_lock_type=nosuch", "-1 lm_unknown"},
			{"enable_gl vg_name=vg", "-22 dlm"},
			{"disable_gl vg_name=no", "-22 dlm"},
		} {
			h.want(1, c.said, c.want)
		}
	})
}

// TestLockTypeNotHere asks for a type that lvmlockd knows and has no lock manager for, and for one that does not run.
func TestLockTypeNotHere(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newHooked(lvmwire.DLM)
		h := newHost(t, m)
		h.want(1, "lock_vg vg_name=no mode=ex vg_lock_type=sanlock", "-93 sanlock")
		h.want(1, "lock_vg vg_name=no mode=ex vg_lock_type=dlm", "-210 dlm NO_LOCKSPACES,")
		h.want(1, "start_vg vg_name=no vg_lock_type=sanlock", "-93 sanlock")
		m.fail("running", lvmwire.NoManager)
		h.want(1, "running_lm vg_lock_type=sanlock", "-37 sanlock")
		h.want(1, "running_lm", "-37")
	})
}

// TestChosenTypeIsKept has a type of the global lock from the command line, which holds where no VG is started too.
func TestChosenTypeIsKept(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHost(t, newHooked(lvmwire.DLM), func(c *lvmlock.Config) {
			c.Managers = append(c.Managers, newHooked(lvmwire.Sanlock))
			c.GL = lvmwire.Sanlock
		})
		for range 2 {
			h.want(1, "lock_gl mode=ex vg_lock_type=dlm", "-210 dlm NO_LOCKSPACES,NO_GL_LS,")
			h.start(1, "vg", "sanlock")
			h.want(1, "lock_gl mode=ex", "0 sanlock")
			h.want(1, "lock_gl mode=un", "0 sanlock")
			h.want(1, "stop_vg vg_name=vg", "0")
		}
	})
}

func TestNoManagerRuns(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newHooked(lvmwire.Sanlock)
		m.fail("running", lvmwire.NoManager)
		h := newHost(t, m)
		h.want(1, "running_lm", "-37")
		h.want(1, "lock_gl mode=sh vg_lock_type=none", "-210 NO_LOCKSPACES,NO_GL_LS,NO_LM")
	})
}

func TestNamesThatCannotBeTold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHost(t, newHooked(lvmwire.Sanlock))
		long := strings.Repeat("v", 44)
		h.start(1, long+"1", "sanlock")
		h.want(1, initVG(long+"2", "none"), "-17 vg=lvmlock")
		h.want(1, "start_vg vg_name="+long+"2 vg_lock_type=sanlock vg_lock_args=1.0.0:lvmlock", "-212 sanlock")
		h.start(1, long[:43]+"x", "sanlock")
	})
}

// TestLongNames: VGs whose names differ behind the 64th byte are never taken for each other.
func TestLongNames(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for _, typ := range []lvmwire.LockType{lvmwire.Sanlock, lvmwire.DLM} {
			h := newHost(t, newHooked(typ))
			long := strings.Repeat("v", 100)
			h.start(1, long+"1", typ.String())
			h.want(1, "lock_vg mode=ex vg_name="+long+"1", "0 "+typ.String())
			h.want(2, "lock_vg mode=ex vg_name="+long+"2", "-210")
			h.want(2, "start_vg vg_name="+long+"2 vg_lock_type="+typ.String()+" vg_lock_args="+vgArgs(typ.String()),
				"-212 "+typ.String())
			h.want(2, "drop_vg vg_name="+long+"2", "-210")
			h.want(1, "lock_vg mode=un vg_name="+long+"1", "0 "+typ.String())
			h.want(1, "stop_vg vg_name="+long+"1", "0")
		}
	})
}
