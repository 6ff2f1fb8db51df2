package vmtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tenurelock/tenure/tools/need"
	"github.com/tenurelock/tenure/tools/rig/vm"
)

// programs are the daemons of one host. Without a wdmd the lease daemon is told to do without (-w 0): its host
// is never reset, which is enough where nothing has to be.
type programs struct {
	name          string
	sanlock, wdmd string
}

// Hosts with Debian's programs, with ours, and with one of each.
var (
	debian         = programs{"Debian", "/usr/sbin/sanlock", "/usr/sbin/wdmd"}
	tenure         = programs{"Tenure", vm.Ours + "sanlock", vm.Ours + "wdmd"}
	tenureLeases   = programs{"Tenure over Debian's wdmd", vm.Ours + "sanlock", "/usr/sbin/wdmd"}
	tenureAlone    = programs{"Tenure without a watchdog", vm.Ours + "sanlock", ""}
	tenureWatchdog = programs{"Debian over Tenure's wdmd", "/usr/sbin/sanlock", vm.Ours + "wdmd"}
)

// What lies where on the shared disk, in bytes.
const (
	diskSize       = 64 << 20
	resourceOffset = 8 << 20 // behind the lockspace, which takes 8 MiB with sectors of 4096
	recordsOffset  = 32 << 20
)

// cluster is two machines with a lockspace that both have joined; vm1 has the lease and writes.
type cluster struct {
	*testing.T
	ctx  context.Context
	rig  *vm.Rig
	disk string
	c    scenario
	// daemon has the running daemons by machine and name.
	daemon map[string]*vm.Command
}

// lost is the machine that a scenario loses.
func (c *cluster) lost() *vm.Machine { return c.rig.Machine(1) }

// guest is built once: all scenarios run the same programs, whatever happens to the source meanwhile.
var guest = sync.OnceValues(func() (vm.Image, error) { return vm.Build(context.Background(), vm.Standard()) })

// startCluster brings a scenario to where vm1 writes under its lease and vm2 is refused it.
func startCluster(t *testing.T, s scenario) *cluster {
	t.Helper()
	if os.Getenv("TENURE_VMTEST") == "" {
		t.Skip("needs TENURE_VMTEST=1, which make vmtest sets: virtual machines take minutes")
	}
	need.Program(t, vm.QEMU)
	need.Program(t, "sanlock")
	ctx, cancel := context.WithTimeout(t.Context(), s.limit())
	t.Cleanup(cancel)
	image, err := guest()
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{T: t, ctx: ctx, disk: filepath.Join(t.TempDir(), "shared.img"), c: s, daemon: map[string]*vm.Command{}}
	if err := errors.Join(os.WriteFile(c.disk, nil, 0o600), os.Truncate(c.disk, diskSize)); err != nil {
		t.Fatal(err)
	}
	c.rig, err = vm.New(vm.Options{
		Image: image, Disks: []vm.Disk{{Path: c.disk, SectorSize: s.sector}}, Watchdog: s.watchdog, StayDown: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.finish)
	if err := c.rig.Start(ctx, 2); err != nil {
		t.Fatal(err)
	}
	c.daemons(1, s.lost)
	c.daemons(2, s.survivor)
	c.join()
	c.hold()
	return c
}

// finish ends the machines; the whole log is kept in the directory that TENURE_VMTEST_LOGS names.
func (c *cluster) finish() {
	if err := c.rig.Close(); err != nil {
		c.Error(err)
	}
	dir := os.Getenv("TENURE_VMTEST_LOGS")
	lines := c.rig.Log().Lines(time.Time{})
	if dir == "" || len(lines) == 0 {
		return
	}
	var text strings.Builder
	for _, l := range lines {
		fmt.Fprintln(&text, l.Format(lines[0].At))
	}
	name := filepath.Join(dir, strings.ReplaceAll(c.Name(), "/", "-")+".log")
	if err := os.WriteFile(name, []byte(text.String()), 0o600); err != nil {
		c.Error(err)
	}
}

// must runs a command that has to succeed soon.
func (c *cluster) must(machine int, command string) string {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, time.Minute)
	defer cancel()
	out, err := c.rig.Machine(machine).Do(ctx, command)
	if err != nil {
		c.Fatal(err)
	}
	return out
}

func (c *cluster) spawn(machine int, source, command string) *vm.Command {
	c.Helper()
	started, err := c.rig.Machine(machine).Spawn(source, command)
	if err != nil {
		c.Fatal(err)
	}
	return started
}

// wait returns the first line that matches; how long it may take is the scenario's limit.
func (c *cluster) wait(m vm.Match) vm.Line {
	c.Helper()
	line, err := c.rig.Log().Wait(c.ctx, m)
	if err != nil {
		c.Fatal(err)
	}
	return line
}

// daemons starts wdmd and sanlock on a machine and waits until they answer.
func (c *cluster) daemons(machine int, p programs) {
	c.Helper()
	watchdog := 0
	if p.wdmd != "" {
		watchdog = 1
		c.daemon[fmt.Sprintf("vm%d wdmd", machine)] = c.spawn(machine, "wdmd", "exec "+p.wdmd+" -D")
		c.must(machine, "for i in $(seq 300); do [ -S /run/wdmd/wdmd.sock ] && exit; sleep 0.1; done; exit 1")
	}
	c.daemon[fmt.Sprintf("vm%d sanlock", machine)] = c.spawn(machine, "sanlock",
		fmt.Sprintf("exec %s daemon -D -R 1 -w %d -e vm%d", p.sanlock, watchdog, machine))
	c.must(machine, "for i in $(seq 100); do sanlock client status >/dev/null 2>&1 && exit; sleep 0.2; done; exit 1")
}

// join formats the disk and lets both machines join the lockspace, at once.
func (c *cluster) join() {
	c.Helper()
	c.must(1, fmt.Sprintf("sanlock client init -s LS:0:/dev/rig/disk0:0 -o %d && sanlock client init -r LS:RES:/dev/rig/disk0:%d",
		c.c.io, resourceOffset))
	one, two := c.add(1), c.add(2)
	c.added(1, one)
	c.added(2, two)
}

func (c *cluster) add(machine int) *vm.Command {
	c.Helper()
	return c.spawn(machine, "join", fmt.Sprintf("sanlock client add_lockspace -s LS:%d:/dev/rig/disk0:0 -o %d", machine, c.c.io))
}

func (c *cluster) added(machine int, add *vm.Command) {
	c.Helper()
	if code, err := add.Wait(c.ctx); err != nil || code != 0 {
		c.Fatalf("vm%d does not join the lockspace: %d, %v", machine, code, err)
	}
}

// rejoin lets vm1 come back: it joins as the host it was, and must not get what is vm2's now.
func (c *cluster) rejoin() {
	c.Helper()
	if err := c.lost().Boot(c.ctx); err != nil {
		c.Fatal(err)
	}
	c.daemons(1, c.c.lost)
	c.added(1, c.add(1))
	c.refused(1)
}

// holder is the command that takes the lease and writes.
func holder(machine int, more string) string {
	return fmt.Sprintf("holder -name vm%d -offset %d -area %d %s", machine, resourceOffset, recordsOffset, more)
}

func (c *cluster) hold() {
	c.Helper()
	more := ""
	if c.c.ignoreTerm {
		more = "-ignore-term"
	}
	c.spawn(1, "holder", "exec "+holder(1, more))
	c.wait(vm.Match{Machine: 1, Source: "holder", Text: "wrote 3"})
	c.refused(2)
}

// refused asks for the lease on a machine while the other has it.
func (c *cluster) refused(machine int) {
	c.Helper()
	out, code, err := c.rig.Machine(machine).Run(c.ctx, holder(machine, ""))
	if err != nil || code != 1 || !strings.Contains(out, "-243") {
		c.Fatalf("vm%d asks for the lease that the other holds and gets %q, %d, %v; want -243", machine, out, code, err)
	}
}
