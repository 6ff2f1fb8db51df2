package vmtest

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tenurelock/tenure/tools/rig/vm"
)

// TestCleanStop: where no lease is held, daemons may be stopped and started again, and the watchdog rests meanwhile.
// One machine for each pair of daemons. Debian's wdmd may miss what Debian's lease daemon says right before it hangs up
// (COMPATIBILITY.md): then that machine is reset, and the others go on.
func TestCleanStop(t *testing.T) {
	t.Parallel()
	pairs := []programs{tenure, tenureLeases, tenureWatchdog, debian}
	c := newCluster(t, shape{
		machines: len(pairs), disks: 2, io: 2, sector: 512, watchdog: vm.Softdog, limit: 10 * time.Minute,
	})
	var machines []int
	for i, p := range pairs {
		machines = append(machines, i+1)
		c.daemons(i+1, p)
	}
	c.format(0)
	c.join(machines, 0)
	for _, m := range machines {
		c.takesAndGives(m)
	}
	for _, m := range machines {
		c.stop(m, pairs[m-1])
	}
	machines = c.unharmed(machines, pairs, time.Now())
	for _, m := range machines {
		c.daemons(m, pairs[m-1])
	}
	c.join(machines, 0)
	// The lease daemon alone is stopped and started again, over a watchdog daemon that runs on.
	for _, m := range machines {
		c.stopSanlock(m)
		c.startSanlock(m, pairs[m-1])
	}
	c.join(machines, 0)
	for _, m := range c.unharmed(machines, pairs, time.Now()) {
		c.takesAndGives(m)
	}
}

// takesAndGives takes the lease on a machine for a moment. On a busy host a transfer may take longer than the
// io_timeout, so it tries again.
func (c *cluster) takesAndGives(machine int) {
	c.Helper()
	c.must(machine, fmt.Sprintf(
		"for i in 1 2 3 4 5; do sanlock client command -r %s:RES:%s:%d -c /bin/true && exit; sleep 2; done; exit 1",
		space(0).name(), space(0).device(), resourceOffset))
}

// stop ends the daemons of a machine in the way in which a service manager does.
func (c *cluster) stop(machine int, p programs) {
	c.Helper()
	c.stopSanlock(machine)
	if !c.ends(machine, "wdmd", p == debian, c.running[fmt.Sprintf("vm%d wdmd", machine)].Signal(syscall.SIGTERM)) {
		return
	}
	state, _, err := c.rig.Machine(machine).Run(c.ctx, "cat /sys/class/watchdog/watchdog0/state")
	if err != nil || strings.TrimSpace(state) != "inactive" {
		c.Errorf("vm%d, %s: after the stop the watchdog is %q, %v", machine, p.name, state, err)
	}
}

func (c *cluster) stopSanlock(machine int) {
	c.Helper()
	c.must(machine, fmt.Sprintf("sanlock client rem_lockspace -s %s:%d:%s:0", space(0).name(), machine, space(0).device()))
	c.must(machine, "sanlock client shutdown -w 1")
	c.ends(machine, "sanlock", false, nil)
}

// ends waits for a daemon that was told to end. It reports false if the machine may be reset before it does, and was.
func (c *cluster) ends(machine int, name string, mayReset bool, err error) bool {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
	code, err := c.running[fmt.Sprintf("vm%d %s", machine, name)].Wait(c.ctx)
	if err != nil && mayReset && len(c.rig.Machine(machine).Resets()) != 0 {
		return false // unharmed tells
	}
	if err != nil || code != 0 {
		c.Errorf("vm%d: %s ends with %d, %v", machine, name, code, err)
	}
	return true
}

// unharmed waits until the watchdog would have fired, sees that no machine is reset, and returns those that were not.
// Where all is Debian's it may be.
func (c *cluster) unharmed(machines []int, pairs []programs, since time.Time) []int {
	c.Helper()
	time.Sleep(time.Until(since.Add(fire + 10*time.Second)))
	return slices.DeleteFunc(slices.Clone(machines), func(m int) bool {
		resets := c.rig.Machine(m).Resets()
		for _, reset := range resets {
			if pairs[m-1] == debian {
				c.Logf("vm%d, %s: reset: %s", m, pairs[m-1].name, reset.Text)
			} else {
				c.Errorf("vm%d, %s: reset: %s", m, pairs[m-1].name, reset.Text)
			}
		}
		return len(resets) != 0
	})
}
