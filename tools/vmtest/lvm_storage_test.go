package vmtest

import (
	"testing"
	"time"

	"github.com/tenurelock/tenure/tools/rig/vm"
)

// How the LVs of a VG are let go whose storage is lost.
const (
	byCommand = "by-command" // global/lvmlockctl_kill_command does it
	byHand    = "by-hand"    // an administrator does
	notAtAll  = "not-at-all"
)

// The intervals of a lockspace with the io_timeout of the tests, from its last renewal (spec lvmlockd 4.11).
const (
	vgLost = 8 * ioTimeout * time.Second
	vgDead = vgLost + fire
	renews = 2 * ioTimeout * time.Second
)

// killScript lets the VG's LVs go and leaves a trace of it.
const killScript = `#!/bin/sh
echo "let go $1" >>/tmp/killed
for lv in c1 c2; do dmsetup remove --force $1-$lv; done
`

// TestLVMStorage takes the disk of a VG away from a host with a watchdog that has LVs of it active. The kill command is
// run; if the LVs are let go in time the VG is dropped and the host goes on, if not its watchdog resets it. Either way
// the other host gets them, and later.
func TestLVMStorage(t *testing.T) {
	t.Parallel()
	debian, tenure := allDebian, allTenure
	debian.wdmd, tenure.wdmd = debianWdmd, ourWdmd
	for _, test := range []struct {
		name string
		s    stack
	}{{"Debian", debian}, {"Tenure", tenure}} {
		for _, how := range []string{byCommand, byHand, notAtAll} {
			t.Run(test.name+"-"+how, func(t *testing.T) {
				t.Parallel()
				p := startPair(t, "sanlock", test.s, test.s, func(o *vm.Options) { o.Watchdog = vm.Softdog })
				for host := 1; host <= 2; host++ {
					p.leases(host)
					p.lockd(host, "")
				}
				p.play("vgs", storageVGs...)
				p.killCommand(how)
				p.play("hold", on(1, "B12", "lvchange -aey vg2/c1 && lvchange -asy vg2/c2", 0),
					on(2, "B12", "lvchange -aey vg2/c1", 5, "LV locked by other host"))
				p.loseStorage(how)
			})
		}
	}
}

// storageVGs: the global lock is in another VG, on a disk that is well.
var storageVGs = append([]step{
	on(1, "A4", "vgcreate --shared vg1 /dev/vda", 0),
	on(1, "A7", "lvcreate -an -Zn -l1 -n a vg1", 0),
	on(2, "B2", "vgchange --lockstart vg1 || vgchange --lockstart vg1", 0),
}, lossVG...)

// killCommand sets what vm1 does when the VG's storage is lost.
func (p *pair) killCommand(how string) {
	p.Helper()
	command := ""
	switch how {
	case byCommand:
		command = "/usr/sbin/letgo"
		p.must(1, "cat >/usr/sbin/letgo <<'EOF'\n"+killScript+"EOF\nchmod 755 /usr/sbin/letgo")
	case notAtAll:
		command = "/usr/sbin/fails"
		p.must(1, "printf '#!/bin/sh\\necho \"failed $1\" >>/tmp/killed\\nexit 1\\n' >/usr/sbin/fails && chmod 755 /usr/sbin/fails")
	}
	if command != "" {
		p.must(1, `sed -i 's|^global {|global {\n\tlvmlockctl_kill_command = "`+command+`"|' /etc/lvm/lvm.conf`)
	}
}

// loseStorage takes the disk away and follows what becomes of the VG.
func (p *pair) loseStorage(how string) {
	p.Helper()
	lost := time.Now()
	if err := p.rig.Machine(1).DiskFail(p.ctx, 1); err != nil {
		p.Fatal(err)
	}
	p.spawn(2, "survivor", "until lvchange -aey vg2/c1; do sleep 0.5; done; until lvchange -aey vg2/c2; do sleep 0.5; done; echo taken")
	switch how {
	case byCommand:
		p.play("killed", on(1, "B12", untilTrue("[ -s /tmp/killed ]")+"; sleep 1; cat /tmp/killed", 0, "let go vg2"))
	case byHand:
		p.play("killed",
			on(1, "B12", untilTrue("CTL -i -d | grep -q 'vg_name=vg2 .*kill_vg=1'"), 0),
			on(1, "B12", "vgs vg1", 0, "vg1"),
			on(1, "B12", "dmsetup remove --force vg2-c1; dmsetup remove --force vg2-c2; CTL -e --drop vg2", 0))
	case notAtAll:
		p.play("killed", on(1, "B12", untilTrue("[ -s /tmp/killed ]")+"; cat /tmp/killed", 0, "failed vg2"))
	}
	if took := time.Since(lost); took < vgLost-renews-late || took > vgLost+grace {
		p.Errorf("the VG was killed %.1f s after its disk was lost, want %v or a renewal less", took.Seconds(), vgLost)
	}
	if how == notAtAll {
		p.isReset(lost)
		return
	}
	p.goesOn(lost)
}

func untilTrue(condition string) string {
	return "for i in $(seq 300); do " + condition + " && break; sleep 0.3; done"
}

// isReset: the watchdog ends a host that kept its LVs, before another host has them.
func (p *pair) isReset(lost time.Time) {
	p.Helper()
	taken := p.taken(lost)
	resets := p.rig.Machine(1).Resets()
	if len(resets) == 0 {
		p.Fatalf("vm1 was not reset, and vm2 has its LVs %.1f s after the loss", taken.Sub(lost).Seconds())
	}
	reset := resets[0].At
	p.Logf("reset %.1f s after the loss, taken over after %.1f s", reset.Sub(lost).Seconds(), taken.Sub(lost).Seconds())
	if at := reset.Sub(lost); at < fire-early || at > vgDead+early || taken.Before(reset) {
		p.Errorf("reset %.1f s after the loss, want %v to %v, and before vm2 has the LVs, after %.1f s", at.Seconds(), fire,
			vgDead, taken.Sub(lost).Seconds())
	}
}

// goesOn: a host that let go in time is not reset, its other VG is as it was, and it may come back.
func (p *pair) goesOn(lost time.Time) {
	p.Helper()
	p.play("dropped", on(1, "B12", untilTrue("! CTL -i | grep -q lvm_vg2")+"; CTL -i", 0, "!lvm_vg2"))
	if dropped := time.Since(lost); dropped < vgLost-renews+grace {
		p.play("other-vg",
			on(1, "B12", "CTL -i", 0, "LS sanlock lvm_vg1"),
			on(1, "B12", "sanlock client status", 0, "!s lvm_vg2", "s lvm_vg1"),
			on(1, "B12", "lvchange -aey vg1/a && lvchange -an vg1/a", 0))
	} else {
		p.Logf("dropped %.1f s after the loss: lvmlockd has got SIGTERM by then, and stops VGs that are idle", dropped.Seconds())
	}
	taken := p.taken(lost)
	p.Logf("taken over %.1f s after the loss", taken.Sub(lost).Seconds())
	time.Sleep(time.Until(lost.Add(vgDead + fire/2)))
	if resets := p.rig.Machine(1).Resets(); len(resets) != 0 {
		p.Fatalf("vm1 was reset %.1f s after the loss, though its LVs were let go", resets[0].At.Sub(lost).Seconds())
	}
	if err := p.rig.Machine(1).DiskOK(p.ctx, 1); err != nil {
		p.Fatal(err)
	}
	p.play("back",
		on(1, "B12", "dmsetup remove vg2-lvmlock; vgchange --lockstart vg2 || vgchange --lockstart vg2", 0),
		on(1, "B12", "lvchange -aey vg2/c1", 5, "LV locked by other host"),
		on(2, "B12", "lvchange -an vg2", 0),
		on(1, "B12", "lvchange -aey vg2/c1 && lvchange -an vg2/c1", 0))
}

// taken is when the other host has the LVs; at least as long after the last renewal as a dead host needs.
func (p *pair) taken(lost time.Time) time.Time {
	p.Helper()
	line, err := p.rig.Log().Wait(p.ctx, vm.Match{Machine: 2, Source: "survivor", Text: "taken", Since: lost})
	if err != nil {
		p.Fatal(err)
	}
	if took := line.At.Sub(lost); took < vgDead-renews-early {
		p.Errorf("vm2 has the LVs %.1f s after the loss, want %v at least", took.Seconds(), vgDead-renews)
	}
	return line.At
}
