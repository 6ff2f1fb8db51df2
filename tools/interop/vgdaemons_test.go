package interop

import (
	"fmt"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// stopped is how soon lvmlockd has stopped an idle VG after a SIGTERM: sanlock takes up to two seconds for it.
const stopped = 5 * time.Second

// eachPair runs f for each pair of daemons of one host.
func eachPair(t *testing.T, f func(t *testing.T, p struct{ lockd, sanlock kind }, i int)) {
	t.Helper()
	var trials []trial
	for i, p := range pairs {
		trials = append(trials, trial{
			fmt.Sprintf("%s over %s", p.lockd, p.sanlock), func(t *testing.T) { t.Helper(); f(t, p, i) },
		})
	}
	together(t, trials...)
}

// until sends a request until it is answered so.
func (c *command) until(t testing.TB, r lvmwire.Request, want lvmwire.Result) {
	t.Helper()
	for deadline := time.Now().Add(startWait); ; time.Sleep(pollPause) {
		a := c.must(t, r)
		if a.Result == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s %s%s: %d, want %d", r.Name, r.VGName, r.LVUUID, a.Result, want)
		}
	}
}

// terminate sends SIGTERM and says whether the daemon ends.
func (d *lockd) terminate(t testing.TB) bool {
	t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-d.done:
		if code := d.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("%s: exit code %d", d, code)
		}
		return true
	case <-time.After(stopped):
		return false
	}
}

// TestLockdIsAskedToEnd sends SIGTERM to lvmlockd, as systemd does, and sanlock for a VG whose storage is gone. A VG that
// is locked goes on, one that is idle is stopped: by ours not if the first was killed. When nothing is locked ours ends;
// Debian's needs to be asked again once it has stopped all.
func TestLockdIsAskedToEnd(t *testing.T) {
	waiting(t, 60)
	eachPair(t, func(t *testing.T, p struct{ lockd, sanlock kind }, i int) {
		d := pair(t, p.lockd, p.sanlock, 1)
		locked, idle := newGroup(t, fmt.Sprintf("t%da", i), 71), newGroup(t, fmt.Sprintf("t%db", i), 71)
		c := locked.started(t, d)
		c.want(t, idle.init(), lvmwire.OK)
		idle.join(t, d, c)
		args := c.want(t, locked.lv("init_lv", 0, ""), lvmwire.OK).LVArgs
		c.want(t, locked.lockLV(0, lvmwire.EX, args, "persistent"), lvmwire.OK)
		if d.terminate(t) {
			t.Fatalf("%s ends though an LV is locked", d)
		}
		c.until(t, idle.lockVG(lvmwire.SH), lvmwire.NoLockspace)
		c.want(t, locked.lockLV(0, lvmwire.EX, args, "persistent"), lvmwire.Already)

		idle.join(t, d, c)
		c.want(t, locked.request("kill_vg"), lvmwire.OK)
		if d.terminate(t) {
			t.Fatalf("%s ends though an LV is locked in a VG that was killed", d)
		}
		if a := c.must(t, idle.lockVG(lvmwire.SH)); (a.Result == lvmwire.OK) != (p.lockd == tenure) {
			t.Errorf("%s: lock an idle VG after SIGTERM for one that was killed: %d", d, a.Result)
		}
		c.must(t, idle.lockVG(lvmwire.UN))
		c.want(t, locked.request("drop_vg"), lvmwire.OK)
		c.until(t, locked.request("drop_vg"), lvmwire.NoLockspace)
		if p.lockd == debian {
			idle.join(t, d, c)
		}
		switch ended := d.terminate(t); {
		case p.lockd == tenure && !ended:
			t.Errorf("%s does not end though nothing is locked", d)
		case p.lockd == debian && ended:
			t.Logf("%s ends at the first SIGTERM", d)
		case p.lockd == debian && !d.terminate(t):
			t.Errorf("%s does not end though nothing is left", d)
		}
	})
}

// TestSanlockStartsAnew kills sanlock under lvmlockd, and starts it again; no watchdog ends the host. The leases are
// gone. Ours says so of the VG's locks until it is dropped; Debian's goes on to call an LV locked. Then either can start
// the VG again.
func TestSanlockStartsAnew(t *testing.T) {
	waiting(t, 30)
	eachPair(t, func(t *testing.T, p struct{ lockd, sanlock kind }, i int) {
		d := pair(t, p.lockd, p.sanlock, 1)
		g := newGroup(t, fmt.Sprintf("n%d", i), 71)
		c := g.started(t, d)
		var args [2]string
		for j := range args {
			args[j] = c.want(t, g.lv("init_lv", j, ""), lvmwire.OK).LVArgs
		}
		c.want(t, g.lockLV(0, lvmwire.EX, args[0], "persistent"), lvmwire.OK)
		c.want(t, g.lockVG(lvmwire.EX), lvmwire.OK)
		d.node.kill(t)
		d.node = startIn(t, filepath.Dir(d.node.runDir), p.sanlock, 1)

		// Debian's answers for the LV from memory, and calls the daemon's refusals -221.
		held, refused := lvmwire.OK, lvmwire.ManagerError
		if p.lockd == tenure {
			held, refused = lvmwire.VGKilled, lvmwire.VGKilled
		}
		c.want(t, g.lockVG(lvmwire.UN), lvmwire.OK)
		c.until(t, g.lockVG(lvmwire.SH), refused)
		c.want(t, lockGL(lvmwire.SH), refused)
		c.want(t, g.lockLV(1, lvmwire.EX, args[1], "persistent"), refused)
		c.want(t, g.lockLV(0, lvmwire.EX, args[0], "none"), held)
		c.want(t, g.request("stop_vg"), lvmwire.Busy)
		c.want(t, g.request("drop_vg"), lvmwire.OK)
		c.until(t, g.request("drop_vg"), lvmwire.NoLockspace)
		g.join(t, d, c)
		for j := range args {
			c.want(t, g.lockLV(j, lvmwire.EX, args[j], "persistent"), lvmwire.OK)
			c.want(t, g.lockLV(j, lvmwire.UN, args[j], "persistent"), lvmwire.OK)
		}
		c.want(t, lockGL(lvmwire.SH), lvmwire.OK)
		c.want(t, g.request("stop_vg"), lvmwire.OK)
	})
}

// TestLockdStartsAnew kills lvmlockd while a command has the VG's lock and the global one and an LV is locked, and starts
// it again as it is started by default. Ours takes the lockspace over and gives back what the command had; the LV, which
// is not active here as far as anybody can tell, stays locked. Debian's does not, and other hosts wait for all of it.
func TestLockdStartsAnew(t *testing.T) {
	waiting(t, 45)
	eachPair(t, func(t *testing.T, p struct{ lockd, sanlock kind }, i int) {
		g := newGroup(t, fmt.Sprintf("k%d", i), 71)
		one, two := pair(t, p.lockd, p.sanlock, 1), pair(t, tenure, debian, 2)
		a, b := g.started(t, one), two.command(t)
		g.join(t, two, b)
		args := a.want(t, g.lv("init_lv", 0, ""), lvmwire.OK).LVArgs
		a.want(t, g.lockLV(0, lvmwire.EX, args, "persistent"), lvmwire.OK)
		a.want(t, g.lockVG(lvmwire.EX), lvmwire.OK)
		a.want(t, lockGL(lvmwire.SH), lvmwire.OK)
		time.Sleep(time.Second) // for the adopt file
		if err := one.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-one.done
		b.want(t, g.lockVG(lvmwire.EX), lvmwire.Again)
		one.run(t)
		a = one.command(t)
		if p.lockd == tenure {
			b.until(t, g.lockVG(lvmwire.EX), lvmwire.OK)
			b.want(t, lockGL(lvmwire.EX), lvmwire.OK)
			b.want(t, lockGL(lvmwire.UN), lvmwire.OK)
			b.want(t, g.lockVG(lvmwire.UN), lvmwire.OK)
			a.until(t, g.lockVG(lvmwire.EX), lvmwire.OK)
			a.want(t, g.lockVG(lvmwire.UN), lvmwire.OK)
			a.want(t, g.lockLV(0, lvmwire.EX, args, "persistent"), lvmwire.Orphan)
			a.want(t, g.request("stop_vg"), lvmwire.Busy)
			a.want(t, g.lockLV(0, lvmwire.EX, args, "persistent,adopt_only"), lvmwire.OK)
		} else {
			a.want(t, g.start(one.node), lvmwire.OK)
			a.until(t, g.lockVG(lvmwire.EX), lvmwire.NoLockspace)
			b.want(t, g.lockVG(lvmwire.EX), lvmwire.Again)
			b.want(t, lockGL(lvmwire.EX), lvmwire.Again)
		}
		b.want(t, g.lockLV(0, lvmwire.EX, args, "persistent"), lvmwire.Again)
		if p.lockd == tenure {
			a.want(t, g.lockLV(0, lvmwire.UN, args, "persistent"), lvmwire.OK)
			b.want(t, g.lockLV(0, lvmwire.EX, args, "persistent"), lvmwire.OK)
			b.want(t, g.lockLV(0, lvmwire.UN, args, "persistent"), lvmwire.OK)
			a.want(t, g.request("stop_vg"), lvmwire.OK)
		} else {
			one.node.kill(t) // it still has the leases that nobody gave back
		}
		b.want(t, g.request("stop_vg"), lvmwire.OK)
	})
}
