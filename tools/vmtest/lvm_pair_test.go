package vmtest

import (
	"context"
	"encoding/base64"
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

// stack is what keeps LVM's locks on one host. The lvm commands are always Debian's.
type stack struct {
	name                          string
	sanlock, lvmlockd, lvmlockctl string
	wdmd                          string // none: the host is never reset
}

const (
	debianSanlock = "/usr/sbin/sanlock"
	debianLockd   = "/usr/sbin/lvmlockd"
	debianCtl     = "/usr/sbin/lvmlockctl"
	debianWdmd    = "/usr/sbin/wdmd"
	ourSanlock    = vm.Ours + "sanlock"
	ourLockd      = vm.Ours + "lvmlockd"
	ourCtl        = vm.Ours + "lvmlockctl"
	ourWdmd       = vm.Ours + "wdmd"
)

// Both lock daemons over both lease daemons.
var (
	allDebian = stack{name: "Debian", sanlock: debianSanlock, lvmlockd: debianLockd, lvmlockctl: debianCtl}
	ourLeases = stack{
		name: "Debian's lvmlockd over Tenure's sanlock", sanlock: ourSanlock, lvmlockd: debianLockd, lvmlockctl: debianCtl,
	}
	ourLocks = stack{
		name: "Tenure's lvmlockd over Debian's sanlock", sanlock: debianSanlock, lvmlockd: ourLockd, lvmlockctl: ourCtl,
	}
	allTenure     = stack{name: "Tenure", sanlock: ourSanlock, lvmlockd: ourLockd, lvmlockctl: ourCtl}
	lvmDisks      = 3
	lvmDiskSize   = int64(1 << 30)
	lvmMemoryMB   = 320
	commandTime   = 8 * time.Minute
	lvmPairBudget = 90 * time.Minute
)

// ioTimeout is sanlock's, in seconds; with less, hosts that share a busy machine lose their leases.
const ioTimeout = 4

// ours says whether the stack's lvmlockd is.
func (s stack) ours() bool { return strings.HasPrefix(s.lvmlockd, vm.Ours) }

// pair is two hosts that share disks, with LVM.
type pair struct {
	*testing.T
	ctx    context.Context
	rig    *vm.Rig
	stacks [2]stack
	locks  string // the lock type: sanlock or dlm
	daemon map[string]*vm.Command
}

var lvmGuest = sync.OnceValues(func() (vm.Image, error) {
	g, err := vm.LVM()
	if err != nil {
		return vm.Image{}, err
	}
	return vm.Build(context.Background(), g)
})

// lvmConf is Debian's LVM without udev, which the guests do not have.
const lvmConf = `
devices {
	dir = "/dev"
	scan = [ "/dev" ]
	filter = [ "a|^/dev/vd|", "r|.*|" ]
	obtain_device_list_from_udev = 0
	external_device_info_source = "none"
	use_devicesfile = 0
	multipath_component_detection = 0
	md_component_detection = 0
}
activation { udev_sync = 0 udev_rules = 0 verify_udev_operations = 0 monitoring = 0 }
global {
	use_lvmlockd = 1
	event_activation = 0
	notify_dbus = 0
	system_id_source = "none"
	thin_check_executable = ""
}
backup { backup = 0 archive = 0 }
local { host_id = %d }
`

// startPair boots two machines with LVM; the daemons are not running yet.
func startPair(t *testing.T, locks string, one, two stack, change ...func(*vm.Options)) *pair {
	t.Helper()
	if os.Getenv("TENURE_VMTEST") == "" {
		t.Skip("needs TENURE_VMTEST=1, which make vmtest sets: virtual machines take minutes")
	}
	for _, program := range []string{vm.QEMU, "sanlock", "lvmlockd", "lvm"} {
		need.Program(t, program)
	}
	if locks == "dlm" {
		need.Program(t, "corosync")
		need.Program(t, "dlm_controld")
	}
	image, err := lvmGuest()
	if err != nil {
		t.Fatal(err)
	}
	booting <- struct{}{}
	defer func() { <-booting }()
	ctx, cancel := context.WithTimeout(t.Context(), lvmPairBudget)
	t.Cleanup(cancel)
	p := &pair{T: t, ctx: ctx, stacks: [2]stack{one, two}, locks: locks, daemon: map[string]*vm.Command{}}
	o := vm.Options{Image: image, StayDown: true, MemoryMB: lvmMemoryMB, Nice: 1, Network: locks == "dlm"}
	for i := range lvmDisks {
		path := filepath.Join(t.TempDir(), fmt.Sprintf("disk%d", i))
		if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, lvmDiskSize)); err != nil {
			t.Fatal(err)
		}
		o.Disks = append(o.Disks, vm.Disk{Path: path, SectorSize: 512})
	}
	for _, c := range change {
		c(&o)
	}
	if p.rig, err = vm.New(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { finish(t, p.rig) })
	boot, stop := context.WithTimeout(ctx, commandTime)
	defer stop()
	if err := p.rig.Start(boot, 2); err != nil {
		t.Fatal(err)
	}
	for host := 1; host <= 2; host++ {
		p.configure(host)
	}
	return p
}

func (p *pair) configure(host int) {
	p.Helper()
	conf := base64.StdEncoding.EncodeToString([]byte(fmt.Sprintf(lvmConf, host)))
	p.must(host, "mkdir -p /etc/lvm && ln -sfn /dev /dev/misc && modprobe dm-mod && echo "+conf+" | base64 -d >/etc/lvm/lvm.conf")
	if p.stacks[host-1].ours() { // the lease daemon runs it when storage is lost
		p.must(host, "ln -sf "+p.ctl(host)+" "+debianCtl)
	}
}

func (p *pair) must(host int, command string) string {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, commandTime)
	defer cancel()
	out, err := p.rig.Machine(host).Do(ctx, command)
	if err != nil {
		p.Fatal(err)
	}
	return out
}

func (p *pair) spawn(host int, source, command string) *vm.Command {
	p.Helper()
	c, err := p.rig.Machine(host).Spawn(source, command)
	if err != nil {
		p.Fatal(err)
	}
	return c
}

// until runs a command again and again until it succeeds.
func (p *pair) until(host int, command string) {
	p.Helper()
	p.must(host, "for i in $(seq 400); do "+command+" >/dev/null 2>&1 && exit; sleep 0.3; done; "+command)
}

// leases starts the lease daemon of a host, over its watchdog daemon if the stack has one.
func (p *pair) leases(host int) {
	p.Helper()
	s, watchdog := p.stacks[host-1], 0
	if s.wdmd != "" {
		watchdog = 1
		p.spawn(host, "wdmd", "rm -f /run/wdmd/wdmd.sock; exec "+s.wdmd+" -D")
		p.until(host, "[ -S /run/wdmd/wdmd.sock ]")
	}
	p.daemon[fmt.Sprintf("vm%d sanlock", host)] = p.spawn(host, "sanlock",
		fmt.Sprintf("exec %s daemon -D -w %d -e vm%d", s.sanlock, watchdog, host))
	p.until(host, "sanlock client status")
}

// lockd starts the lock daemon of a host and waits until it answers.
func (p *pair) lockd(host int, more string) {
	p.Helper()
	p.daemon[fmt.Sprintf("vm%d lvmlockd", host)] = p.spawn(host, "lvmlockd",
		fmt.Sprintf("exec %s -D -g %s -o %d %s", p.stacks[host-1].lvmlockd, p.locks, ioTimeout, more))
	p.until(host, p.ctl(host)+" -i")
}

// ctl is the lvmlockctl that belongs to a host's daemon.
func (p *pair) ctl(host int) string { return p.stacks[host-1].lvmlockctl }

// step is a command in a host, and what it must say. CTL in it stands for the lvmlockctl of the host's daemon.
type step struct {
	spec        string // of the acceptance list, spec lvmlockd 6.2
	host        int
	command     string
	code        int
	want        []string      // texts of the output; those that begin with ! must not be there
	least, most time.Duration // of what the command may take
	patience    time.Duration // the least with Debian's lvmlockd, which asks again and again where ours knows better
	onlyOurs    bool          // Debian's lvmlockd fails here, or never ends
}

func on(host int, spec, command string, code int, want ...string) step {
	return step{spec: spec, host: host, command: command, code: code, want: want}
}

// takes bounds the time of a step. Machines share a busy host, so the most must be generous.
func (s step) takes(least, most time.Duration) step {
	s.least, s.most = least, most
	return s
}

// retries says how long Debian's lvmlockd tries at least.
func (s step) retries(patience time.Duration) step {
	s.patience = patience
	return s
}

// ofOurs leaves the step out where lvmlockd is Debian's.
func (s step) ofOurs() step {
	s.onlyOurs = true
	return s
}

// play runs steps one after the other. A step that fails does not keep the others from running.
func (p *pair) play(name string, steps ...step) {
	p.Run(name, func(t *testing.T) {
		for _, s := range steps {
			if !s.onlyOurs || p.stacks[s.host-1].ours() {
				p.check(t, s)
			}
		}
	})
}

func (p *pair) check(t *testing.T, s step) {
	t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, commandTime)
	defer cancel()
	begun := time.Now()
	out, code, err := p.rig.Machine(s.host).Run(ctx, strings.ReplaceAll(s.command, "CTL", p.ctl(s.host)))
	took := time.Since(begun)
	var wrong []string
	if err != nil || code != s.code {
		wrong = append(wrong, fmt.Sprintf("exit code %d (%v), want %d", code, err, s.code))
	}
	for _, text := range s.want {
		if found, unwanted := strings.CutPrefix(text, "!"); strings.Contains(out, found) == unwanted {
			wrong = append(wrong, fmt.Sprintf("want %q", text))
		}
	}
	if took < s.least || took < s.patience && !p.stacks[s.host-1].ours() || s.most != 0 && took > s.most {
		wrong = append(wrong, fmt.Sprintf("want %v to %v", max(s.least, s.patience), s.most))
	}
	if len(wrong) != 0 {
		t.Errorf("%s vm%d: %s\n  after %.1f s: %s\n%s%s", s.spec, s.host, s.command, took.Seconds(),
			strings.Join(wrong, ", "), out, p.lastWords(s.host))
		return
	}
	t.Logf("%s vm%d: %s: %.1f s", s.spec, s.host, s.command, took.Seconds())
}

// wordsKept is how many lines of a host's lvmlockd are shown with a step that fails.
const wordsKept = 15

// lastWords is what the host's lvmlockd logged last.
func (p *pair) lastWords(host int) string {
	all := p.rig.Log().Find(vm.Match{Machine: host, Source: "lvmlockd"})
	var out strings.Builder
	for _, line := range all[max(0, len(all)-wordsKept):] {
		fmt.Fprintf(&out, "  lvmlockd: %s\n", line.Text)
	}
	return out.String()
}
