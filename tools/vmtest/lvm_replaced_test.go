package vmtest

import (
	"fmt"
	"path"
	"syscall"
	"testing"

	"github.com/tenurelock/tenure/tools/rig/vm"
)

// successors are the lock daemons that follow each other on one host; the lease daemon stays. Copies are the same
// program under another path, as an upgrade installs it.
var successors = []struct{ name, lvmlockd, lvmlockctl, copyOf string }{
	{"Debian-to-Tenure", ourLockd, ourCtl, ""},
	{"Tenure-to-itself", ourLockd, ourCtl, ""},
	{"Tenure-to-its-copy", vm.Ours + "next/lvmlockd", ourCtl, vm.Ours + "tenure"},
	{"Tenure-to-Debian", debianLockd, debianCtl, ""},
	{"Debian-to-itself", debianLockd, debianCtl, ""},
	{"Debian-to-its-copy", "/opt/next/lvmlockd", debianCtl, debianLockd},
}

// TestLVMReplaced kills the lock daemon of a host with LVs active, again and again, and starts another in its place.
// No lock is lost on the way: the other host is kept out throughout, and what is let go in the end is free.
func TestLVMReplaced(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		one, two stack
	}{{"over-Debian", allDebian, ourLocks}, {"over-Tenure", ourLeases, allDebian}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := startPair(t, "sanlock", test.one, test.two, func(o *vm.Options) { o.MemoryMB = replacedMemory })
			for host := 1; host <= 2; host++ {
				p.leases(host)
				p.lockd(host, "-A 1")
			}
			p.play("vg", lossVG...)
			p.play("hold",
				on(1, "A33", "lvchange -aey vg2/c1 && lvchange -asy vg2/c2", 0),
				on(2, "A33", "lvchange -aey vg2/c1", 5, "LV locked by other host"))
			for i, s := range successors {
				p.replace(i, s.name, s.lvmlockd, s.lvmlockctl, s.copyOf)
			}
			p.play("let-go",
				on(1, "A33", "lvchange -an vg2/c1 vg2/c2", 0),
				on(1, "A33", "CTL -i", 0, "!LK LV ex", "!LK LV sh"),
				on(2, "A33", "lvchange -aey vg2/c1 && lvchange -aey vg2/c2 && lvchange -an vg2", 0),
				on(2, "A23", "vgchange --lockstop vg2", 0),
				on(1, "A23", "vgchange --lockstop vg2 && vgchange --lockstart vg2 && lvchange -aey vg2/c1 && lvchange -an vg2", 0))
		})
	}
}

// replacedMemory in MB has room for a second copy of each daemon.
const replacedMemory = 416

// replace kills the lock daemon of vm1, starts its successor and looks whether all locks are there: the other host is
// refused while there is no daemon, when there is one again, and after the successor has worked with them.
func (p *pair) replace(i int, name, lvmlockd, lvmlockctl, copyOf string) {
	p.Helper()
	if copyOf != "" {
		p.must(1, fmt.Sprintf("mkdir -p %s && cp %s %s", path.Dir(lvmlockd), copyOf, lvmlockd))
	}
	p.must(1, "sleep 3")
	if err := p.daemon["vm1 lvmlockd"].Signal(syscall.SIGKILL); err != nil {
		p.Fatal(err)
	}
	p.play(name+"-dead", on(2, "A33", "lvchange -aey vg2/c1", 5, "LV locked by other host"))
	p.stacks[0].lvmlockd, p.stacks[0].lvmlockctl = lvmlockd, lvmlockctl
	p.lockd(1, "-A 1")
	p.play(name,
		on(1, "A33", "for i in $(seq 60); do CTL -i | grep -q 'LK LV ex' && break; sleep 1; done; CTL -i", 0, "LK LV ex", "LK LV sh"),
		on(2, "A33", "lvchange -aey vg2/c1", 5, "LV locked by other host"),
		on(2, "A33", "lvchange -aey vg2/c2", 5, "LV locked by other host"),
		on(2, "A33", "lvchange -asy vg2/c2 && lvchange -an vg2/c2", 0),
		on(1, "A33", "for i in $(seq 60); do vgs vg2 2>&1 | grep -q skipped || break; sleep 1; done; lvextend -l+1 vg2/c1", 0,
			"successfully resized"),
		on(1, "A33", fmt.Sprintf("lvcreate -an -Zn -l1 -n s%d vg2 && lvremove -y vg2/s%d", i, i), 0),
		on(1, "A33", "CTL -i", 0, "LK LV ex", "LK LV sh"),
		on(2, "A33", "lvchange -aey vg2/c1", 5, "LV locked by other host"))
}
