package vmtest

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tenurelock/tenure/tools/rig/vm"
)

// TestCleanStop: where no lease is held, daemons may be stopped and started again, and the watchdog rests meanwhile.
// One machine for each pair of daemons.
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
	for i, p := range pairs {
		c.stop(i+1, p)
	}
	stopped := time.Now()
	c.unharmed(stopped, fire+10*time.Second)
	for i, p := range pairs {
		c.daemons(i+1, p)
	}
	c.join(machines, 0)
	// The lease daemon alone is stopped and started again, over a watchdog daemon that runs on.
	for i, p := range pairs {
		c.stopSanlock(i + 1)
		c.startSanlock(i+1, p)
	}
	c.join(machines, 0)
	restarted := time.Now()
	c.unharmed(restarted, fire+10*time.Second)
	for _, m := range machines {
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
	c.ends(machine, "wdmd", c.daemon[fmt.Sprintf("vm%d wdmd", machine)].Signal(syscall.SIGTERM))
	state, _, err := c.rig.Machine(machine).Run(c.ctx, "cat /sys/class/watchdog/watchdog0/state")
	if err != nil || strings.TrimSpace(state) != "inactive" {
		c.Errorf("vm%d, %s: after the stop the watchdog is %q, %v", machine, p.name, state, err)
	}
}

func (c *cluster) stopSanlock(machine int) {
	c.Helper()
	c.must(machine, fmt.Sprintf("sanlock client rem_lockspace -s %s:%d:%s:0", space(0).name(), machine, space(0).device()))
	c.must(machine, "sanlock client shutdown -w 1")
	c.ends(machine, "sanlock", nil)
}

// ends waits for a daemon that was told to end.
func (c *cluster) ends(machine int, name string, err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
	if code, err := c.daemon[fmt.Sprintf("vm%d %s", machine, name)].Wait(c.ctx); err != nil || code != 0 {
		c.Errorf("vm%d: %s ends with %d, %v", machine, name, code, err)
	}
}

// unharmed waits and sees that no machine is reset.
func (c *cluster) unharmed(since time.Time, wait time.Duration) {
	c.Helper()
	time.Sleep(time.Until(since.Add(wait)))
	for _, m := range c.rig.Machines() {
		for _, reset := range m.Resets() {
			c.Errorf("vm%d was reset: %s", m.ID(), reset.Text)
		}
	}
}
