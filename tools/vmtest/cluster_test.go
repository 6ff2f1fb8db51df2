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
	short, name   string
	sanlock, wdmd string
}

// Hosts with Debian's programs, with ours, and with one of each.
var (
	debian         = programs{"debian", "Debian", "/usr/sbin/sanlock", "/usr/sbin/wdmd"}
	tenure         = programs{"tenure", "Tenure", vm.Ours + "sanlock", vm.Ours + "wdmd"}
	tenureLeases   = programs{"tenure-over-debian", "Tenure over Debian's wdmd", vm.Ours + "sanlock", "/usr/sbin/wdmd"}
	tenureWatchdog = programs{"debian-over-tenure", "Debian over Tenure's wdmd", "/usr/sbin/sanlock", vm.Ours + "wdmd"}
	tenureAlone    = programs{"tenure-alone", "Tenure without a watchdog", vm.Ours + "sanlock", ""}
)

// Every cluster has these disks; further ones are for further lockspaces. The records lie on a disk of their own, so
// that a holder goes on writing until something stops it, however the leases fare.
const (
	leaseDisk  = 0
	recordDisk = 1
)

// What lies where on the disks, in bytes.
const (
	diskSize       = 64 << 20
	resourceOffset = 8 << 20 // behind the lockspace, which takes 8 MiB with sectors of 4096
	recordsSize    = 1 << 20 // of each lockspace
)

// cluster is some machines that share disks.
type cluster struct {
	*testing.T
	ctx   context.Context
	rig   *vm.Rig
	disks []string
	io    int // io_timeout, seconds
	// running has daemons and holders by machine and name.
	running map[string]*vm.Command
}

// lost is the machine that a scenario loses.
func (c *cluster) lost() *vm.Machine { return c.rig.Machine(1) }

// guest is built once: all scenarios run the same programs, whatever happens to the source meanwhile.
var guest = sync.OnceValues(func() (vm.Image, error) { return vm.Build(context.Background(), vm.Standard()) })

// shape is what a cluster is made of.
type shape struct {
	machines, disks int
	io, sector      int
	watchdog        vm.Watchdog
	limit           time.Duration // of the whole test
}

// newCluster boots machines that have nothing running yet.
func newCluster(t *testing.T, s shape) *cluster {
	t.Helper()
	if os.Getenv("TENURE_VMTEST") == "" {
		t.Skip("needs TENURE_VMTEST=1, which make vmtest sets: virtual machines take minutes")
	}
	need.Program(t, vm.QEMU)
	need.Program(t, "sanlock")
	image, err := guest()
	if err != nil {
		t.Fatal(err)
	}
	booting <- struct{}{}
	defer func() { <-booting }()
	ctx, cancel := context.WithTimeout(t.Context(), s.limit)
	t.Cleanup(cancel)
	c := &cluster{T: t, ctx: ctx, io: s.io, running: map[string]*vm.Command{}}
	options := vm.Options{Image: image, Watchdog: s.watchdog, StayDown: true, Nice: 1}
	for i := range s.disks {
		path := filepath.Join(t.TempDir(), fmt.Sprintf("disk%d.img", i))
		if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, diskSize)); err != nil {
			t.Fatal(err)
		}
		c.disks = append(c.disks, path)
		options.Disks = append(options.Disks, vm.Disk{Path: path, SectorSize: s.sector})
	}
	c.rig, err = vm.New(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { finish(t, c.rig) })
	if err := c.rig.Start(ctx, s.machines); err != nil {
		t.Fatal(err)
	}
	return c
}

// booting has room for the machines of one test: a kernel that boots needs a core for some seconds, and takes a slow
// host for broken timers.
var booting = make(chan struct{}, 1)

// finish ends a test's machines; the whole log is kept in the directory that TENURE_VMTEST_LOGS names. What failed shows
// what happened last, but for the records and renewals that went well.
func finish(t *testing.T, rig *vm.Rig) {
	if err := rig.Close(); err != nil {
		t.Error(err)
	}
	lines := rig.Log().Lines(time.Time{})
	if t.Failed() && len(lines) > 0 {
		t.Log("what happened last, in seconds from the first line:\n" + lastOf(lines))
	}
	dir := os.Getenv("TENURE_VMTEST_LOGS")
	if dir == "" || len(lines) == 0 {
		return
	}
	var text strings.Builder
	for _, l := range lines {
		fmt.Fprintln(&text, l.Format(lines[0].At))
	}
	name := filepath.Join(dir, strings.ReplaceAll(t.Name(), "/", "-")+".log")
	if err := os.WriteFile(name, []byte(text.String()), 0o600); err != nil {
		t.Error(err)
	}
}

// lastOf returns what a log has at its end.
func lastOf(lines []vm.Line) string {
	const most = 200
	var told []string
	for _, l := range lines {
		if !strings.HasPrefix(l.Text, "wrote ") && !strings.HasPrefix(l.Text, "renewed ") {
			told = append(told, l.Format(lines[0].At))
		}
	}
	return strings.Join(told[max(0, len(told)-most):], "\n")
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
	if p.wdmd != "" {
		c.startWdmd(machine, p)
	}
	c.startSanlock(machine, p)
}

func (c *cluster) startWdmd(machine int, p programs) {
	c.Helper()
	c.must(machine, "rm -f /run/wdmd/wdmd.sock") // every end of a daemon leaves it behind
	c.running[fmt.Sprintf("vm%d wdmd", machine)] = c.spawn(machine, "wdmd", "exec "+p.wdmd+" -D")
	c.must(machine, "for i in $(seq 300); do [ -S /run/wdmd/wdmd.sock ] && exit; sleep 0.1; done; exit 1")
}

func (c *cluster) startSanlock(machine int, p programs) {
	c.Helper()
	watchdog := 0
	if p.wdmd != "" {
		watchdog = 1
	}
	c.running[fmt.Sprintf("vm%d sanlock", machine)] = c.spawn(machine, "sanlock",
		fmt.Sprintf("exec %s daemon -D -R 1 -w %d -e vm%d", p.sanlock, watchdog, machine))
	c.must(machine, "for i in $(seq 100); do sanlock client status >/dev/null 2>&1 && exit; sleep 0.2; done; exit 1")
}

// space is one of a cluster's lockspaces. The first is on the first disk, further ones follow the records.
type space int

func (s space) name() string { return fmt.Sprintf("LS%d", s) }

func (s space) disk() int {
	if s == 0 {
		return leaseDisk
	}
	return recordDisk + int(s)
}

func (s space) device() string { return fmt.Sprintf("/dev/rig/disk%d", s.disk()) }

// format makes a lockspace with one lease in it.
func (c *cluster) format(s space) {
	c.Helper()
	c.must(1, fmt.Sprintf("sanlock client init -s %s:0:%s:0 -o %d && sanlock client init -r %s:RES:%s:%d",
		s.name(), s.device(), c.io, s.name(), s.device(), resourceOffset))
}

// join lets machines join lockspaces, all at once.
func (c *cluster) join(machines []int, spaces ...space) {
	c.Helper()
	var adds []*vm.Command
	for _, m := range machines {
		for _, s := range spaces {
			adds = append(adds, c.spawn(m, "join",
				fmt.Sprintf("sanlock client add_lockspace -s %s:%d:%s:0 -o %d", s.name(), m, s.device(), c.io)))
		}
	}
	for i, add := range adds {
		if code, err := add.Wait(c.ctx); err != nil || code != 0 {
			c.Fatalf("machine %d does not join a lockspace: %d, %v", machines[i/len(spaces)], code, err)
		}
	}
}

// holder is the command that takes a lease and writes.
func holder(machine int, s space, more string) string {
	return fmt.Sprintf("holder -name vm%d -space %s -device %s -offset %d -records /dev/rig/disk%d -area %d %s", machine,
		s.name(), s.device(), resourceOffset, recordDisk, int(s)*recordsSize, more)
}

// hold lets a machine hold a lease and write.
func (c *cluster) hold(machine int, s space, more string) *vm.Command {
	c.Helper()
	source := holderSource(s)
	started := c.spawn(machine, source, "exec "+holder(machine, s, more))
	c.running[fmt.Sprintf("vm%d %s", machine, source)] = started
	c.wait(vm.Match{Machine: machine, Source: source, Text: "wrote 3"})
	return started
}

// holderSource is what the lines of a lockspace's holders are logged under.
func holderSource(s space) string {
	if s == 0 {
		return "holder"
	}
	return fmt.Sprintf("holder%d", s)
}

// refused asks for a lease on a machine while another has it.
func (c *cluster) refused(machine int, s space) {
	c.Helper()
	out, code, err := c.rig.Machine(machine).Run(c.ctx, holder(machine, s, ""))
	if err != nil || code != 1 || !strings.Contains(out, "-243") {
		c.Fatalf("vm%d asks for the lease that another holds and gets %q, %d, %v; want -243", machine, out, code, err)
	}
}

// takeOver asks for a lease on a machine until it is granted.
func (c *cluster) takeOver(machine int, s space) {
	c.Helper()
	c.spawn(machine, holderSource(s), fmt.Sprintf("until %s; do sleep 0.2; done", holder(machine, s, "")))
}
