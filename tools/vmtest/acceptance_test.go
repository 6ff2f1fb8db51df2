package vmtest

import (
	"slices"
	"syscall"
	"testing"
	"time"
)

// lvmPair is what runs on the two hosts.
type lvmPair struct {
	name     string
	one, two stack
}

// The lock daemons that TestLVM runs on the two hosts.
var lvmPairs = []lvmPair{
	{"Debian", allDebian, allDebian},
	{"leases", ourLeases, allDebian},
	{"locks", ourLocks, allDebian},
	{"locks-on-the-other", allDebian, ourLocks},
	{"Tenure", allTenure, allTenure},
	{"Tenure-and-Debian", allTenure, allDebian},
}

// lvmWhole are the pairs of whole hosts, without the mixtures in one.
var lvmWhole = slices.DeleteFunc(slices.Clone(lvmPairs), func(p lvmPair) bool {
	return p.one == ourLeases || p.one == ourLocks || p.two == ourLocks
})

// TestLVM plays most of the acceptance list of spec lvmlockd 6.2 with Debian's lvm commands. The first pair judges the list.
// It takes longer than anything else, and the tests that wait for a machine begin in the order of the files' names.
func TestLVM(t *testing.T) {
	t.Parallel()
	for _, test := range lvmPairs {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := startPair(t, "sanlock", test.one, test.two)
			p.play("without-daemon", withoutDaemon...)
			p.leases(1)
			p.lockd(1, "")
			p.play("first-vg", firstVG...)
			p.play("lv", oneLV...)
			p.play("snapshot", snapshots...)
			p.play("held", heldByOwn...)
			p.leases(2)
			p.lockd(2, "")
			p.play("two-hosts", twoHosts...)
			p.play("rename", renames...)
			p.play("global-lock", globalLock...)
			p.play("stop", stops...)
			p.play("kill", kills...)
			p.play("lock-type", lockTypes...)
			p.play("remove", removals...)
			p.spawn(1, "lvmpolld", "exec lvmpolld -f -t 0")
			p.play("move", moves...)
			p.play("types", types...)
			p.play("volumes", volumes...)
			p.play("pool", pools...)
		})
	}
}

// TestLVMLoss is the rest of the list, on hosts of their own: what becomes of LVs when a lock daemon, a disk or a host
// is lost.
func TestLVMLoss(t *testing.T) {
	t.Parallel()
	for _, test := range lvmWhole {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := startPair(t, "sanlock", test.one, test.two)
			for host := 1; host <= 2; host++ {
				p.leases(host)
				p.lockd(host, "-A 1")
			}
			p.play("vg", lossVG...)
			p.play("slots", fullSlots...)
			p.adoption()
			p.play("quit", quits...)
			p.deadHost()
			p.lostStorage()
		})
	}
}

var lossVG = []step{
	on(1, "A4", "vgcreate --shared vg2 /dev/vdb", 0),
	on(1, "A7", "lvcreate -an -Zn -l1 -n c1 vg2 && lvcreate -an -Zn -l1 -n c2 vg2", 0),
	on(2, "B2", "vgchange --lockstart vg2 || vgchange --lockstart vg2", 0),
}

var withoutDaemon = []step{
	on(1, "A1", "vgs", 0, "lvmlockd process is not running", "Reading without shared global lock"),
}

var firstVG = []step{
	on(1, "A2", "vgs", 0, "Skipping global lock: lockspace not found or started"),
	on(1, "A3", "pvcreate /dev/vda", 5, "Global lock failed: check that global lockspace is started"),
	on(1, "A4", "vgcreate --shared vg1 /dev/vda", 0, "Enabling sanlock global lock",
		`Logical volume "lvmlock" created.`, `Volume group "vg1" successfully created`,
		"VG vg1 starting sanlock lockspace", "Starting locking.  Waiting until locks are ready..."),
	on(1, "A5", "vgs --noheadings -o vg_name,attr,lock_type,lock_args", 0, "vg1", "wz--ns", "sanlock", "1.0.0:lvmlock"),
	on(1, "A5", "lvs -a --noheadings", 0, "[lvmlock]", "256.00m"),
	on(1, "A5", "lvs --noheadings", 0, "!lvmlock"),
	on(1, "A6", "CTL -i", 0, "VG vg1 lock_type=sanlock ", "LS sanlock lvm_vg1", "LK GL un", "LK VG un", "!LK LV"),
	on(1, "A24", "CTL -q; CTL -i", 0, "LS sanlock lvm_vg1"),
}

var oneLV = []step{
	on(1, "A7", "lvcreate -n lv1 -l4 vg1", 0, `Logical volume "lv1" created.`),
	on(1, "A7", "lvs --noheadings -o lv_name,lv_lockargs vg1", 0, "lv1", "1.0.0:70254592"),
	on(1, "A7", "CTL -i", 0, "LK LV ex"),
	on(1, "A8", "lvchange -an vg1/lv1", 0),
	on(1, "A8", "CTL -i", 0, "!LK LV ex"),
	on(1, "A9", "lvchange -asy vg1/lv1", 0),
	on(1, "A9", "CTL -i", 0, "LK LV sh"),
	on(1, "A11", "lvextend -l+1 vg1/lv1", 5, "LV is already locked with incompatible mode: vg1/lv1"),
	on(1, "A11", "lvextend --lockopt shupdate -l+1 vg1/lv1", 0, "xtending LV with a shared lock",
		"Refreshing LV /dev//vg1/lv1 on other hosts..."),
	on(1, "A11", "lvextend --lockopt shupdate,norefresh -l+1 vg1/lv1", 0, "!Refreshing LV"),
	on(1, "A10", "lvchange -aey vg1/lv1", 0),
	on(1, "A10", "CTL -i", 0, "LK LV ex", "!LK LV sh"),
	on(1, "A11", "lvextend -l+1 vg1/lv1", 0, "successfully resized"),
	on(1, "A11", "lvchange -an vg1/lv1", 0),
	on(1, "A11", "lvextend -l+1 vg1/lv1", 0, "successfully resized"),
	on(1, "A12", "lvrename vg1 lv1 lv1b", 0, `Renamed "lv1" to "lv1b"`),
	on(1, "A12", "lvchange -aey vg1/lv1b", 0),
	on(1, "A13", "lvcreate -an -Zn -l1 -n lv2 vg1", 0),
	on(1, "A13", "lvs --noheadings -o lv_lockargs vg1/lv2", 0, "1.0.0:71303168"),
	on(1, "A13", "lvremove -y vg1/lv2", 0, `Logical volume "lv2" successfully removed`),
	on(1, "A13", "dd if=/dev/mapper/vg1-lvmlock bs=1M skip=68 count=1 2>/dev/null | head -c 512 | grep -a -o '#unused'", 0, "#unused"),
	on(1, "A35", "lvcreate -an -Zn -l1 -n p1 vg1 & a=$!; lvcreate -an -Zn -l1 -n p2 vg1; b=$?; wait $a && exit $b", 0,
		`"p1" created`, `"p2" created`),
	on(1, "A35b", "lvcreate --nolocking -an -Zn -l1 -n x vg1", 5),
	on(1, "A35b", "lvs --readonly vg1 && lvs --nolocking vg1", 0, "p1"),
	on(1, "A35b", "lvcreate --lockopt skipvg -an -Zn -l1 -n p3 vg1", 0, `"p3" created`),
	on(1, "A35b", "lvchange --lockopt skiplv -ay vg1/p3 && lvchange -an vg1/p3", 0),
	on(1, "A35b", "lvremove -y vg1/p1 vg1/p2 vg1/p3", 0),
	on(1, "A34", "vgchange --setlockargs notimeout vg1", 3, "setlockargs"),
}

var snapshots = []step{
	on(1, "A14", "lvcreate -s -l1 -n snap vg1/lv1b", 0, `"snap" created`),
	on(1, "A14", "lvs --noheadings -o lv_name,lv_lockargs vg1/snap | grep -c 1.0.0", 1, "0"),
	on(1, "A14", "lvremove -y vg1/snap", 0),
	on(1, "A15", "lvcreate --type thin-pool -Zn -l8 -n tp vg1", 0),
	on(1, "A15", "lvcreate --type thin -V16M --thinpool tp -n th1 vg1 && lvcreate -s -kn -n th2 vg1/th1", 0),
	on(1, "A15", "lvchange -ay vg1/th2 && lvs --noheadings -o lv_name,lv_lockargs vg1 | grep -c 'th.*1.0.0'", 1, "0"),
	on(1, "A15", "CTL -i | grep -c 'LK LV ex'", 0, "2"), // lv1b and the pool
	on(1, "A15", "lvchange -an vg1/th1 && CTL -i | grep -c 'LK LV ex'", 0, "2"),
	on(1, "A16", "lvchange -asy vg1/th1", 5, "Shared activation not compatible with LV type thin-pool of vg1/tp"),
	on(1, "A15", "lvchange -an vg1 && CTL -i | grep -c 'LK LV ex'", 1, "0"),
	on(1, "A15", "lvremove -y vg1/th2 vg1/th1 vg1/tp", 0),
	on(1, "A16", "lvcreate --type mirror -m1 --mirrorlog core --nosync --alloc anywhere -an -Zn -l1 -n m1 vg1", 0),
	on(1, "A16", "lvchange -asy vg1/m1", 5, "LV type mirror of vg1/m1", "Failed to lock logical volume vg1/m1."),
	on(1, "A16", "lvremove -y vg1/m1 && lvchange -aey vg1/lv1b", 0),
}

// asking is a command that holds the VG's lock in EX while it waits for an answer, which is the end of its input some
// seconds after the question. It is killed by its name in the shell.
const asking = "rm -f /tmp/asked; ({ for i in $(seq 900); do " + asked + " && break; sleep 0.2; done; sleep 10; } | " +
	"lvremove vg1/lv1b >/tmp/asked 2>&1) & for i in $(seq 900); do " + asked + " && break; sleep 0.2; done; "

const asked = "grep -q 'Do you really want' /tmp/asked 2>/dev/null"

var heldByOwn = []step{
	on(1, "A32", asking+"kill -9 $(pidof lvremove) && lvcreate -an -Zn -l1 -n afterkill vg1", 0, `"afterkill" created`),
	on(1, "A32", "lvremove -y vg1/afterkill", 0),
	on(1, "A26", "CTL --dump | head -3", 0, " "),
}

var twoHosts = []step{
	on(2, "B1", "vgs vg1", 0, "Reading VG vg1 without a lock."),
	on(2, "B1", "lvchange -ay vg1/lv1b", 5, "Cannot access VG vg1 due to failed lock."),
	// Without udev the node of the lvmlock LV comes at the end of the command, too late for the first.
	on(2, "B2", "vgchange --lockstart vg1 || vgchange --lockstart vg1", 0).takes(0, 90*time.Second),
	on(2, "B2", "CTL -i", 0, "LS sanlock lvm_vg1"),
	on(2, "A21", "vgchange --lockstart vg1", 0, "!starting"),
	on(2, "B3", "lvchange -aey vg1/lv1b", 5, "LV locked by other host: vg1/lv1b"),
	on(2, "B3", "lvchange -asy vg1/lv1b", 5, "LV locked by other host: vg1/lv1b").retries(4 * time.Second),
	on(1, "B5", "CTL -i", 0, "LK LV ex"),
	on(2, "B5", "lvremove -y vg1/lv1b", 5),
	on(1, "B5", "lvcreate -l1 -an -Zn -n other vg1", 0),
	on(2, "B5", "vgchange -ay vg1", 5),
	on(2, "B5", "lvs --noheadings -o lv_active vg1/other", 0, "active"),
	on(2, "B5", "lvchange -an vg1/other && lvremove -y vg1/other", 0),
	on(1, "B4", "lvchange -an vg1/lv1b && lvchange -asy vg1/lv1b", 0),
	on(2, "B4", "lvchange -asy vg1/lv1b", 0),
	on(2, "B4", "lvchange -aey vg1/lv1b", 5, "LV locked by other host"),
	on(1, "B4", "lvchange -an vg1/lv1b", 0),
	on(2, "B4", "lvchange -aey vg1/lv1b && lvchange -an vg1/lv1b", 0),
	on(2, "B10", "lvextend -l32 vg1/lv1b", 0),
	on(1, "B10", "lvchange -aey vg1/lv1b && lvs --noheadings -o lv_size vg1/lv1b", 0, "128.00m"),
	on(1, "B6", "lvcreate --type thin-pool -Zn -l8 -n tp vg1 && lvcreate --type thin -V16M --thinpool tp -n th1 vg1", 0),
	on(2, "B6", "lvchange -aey vg1/th1", 5, "LV locked by other host"),
	on(1, "B6", "lvchange -an vg1/th1 vg1/tp", 0),
	on(2, "B6", "lvchange -aey vg1/th1 && lvremove -y vg1/th1 vg1/tp", 0),
	on(1, "B7", asking+"true", 0),
	on(2, "B7", "lvcreate -an -Zn -l1 -n waited vg1", 0, `"waited" created`).takes(time.Second, 3*time.Minute),
	on(1, "B7", "rm -f /tmp/asked; sleep 5; (sleep 200 | lvremove vg1/lv1b >/tmp/asked 2>&1) & "+
		"for i in $(seq 900); do grep -q 'Do you really want' /tmp/asked && break; sleep 0.2; done", 0),
	on(2, "B7", "vgs vg1", 0, "Retrying sh lock on VG vg1", "VG vg1 lock skipped: held by other host.").
		takes(20*time.Second, 3*time.Minute),
	on(2, "B7", "lvcreate -an -Zn -l1 -n refused vg1", 5, "VG vg1 lock failed: held by other host"),
	on(1, "B7", "kill -9 $(pidof lvremove); lvremove -y vg1/waited", 0),
}

// left is a command that is refused until a host's stop is seen by the others, some renewals later (T41).
func left(command string) string {
	return "for i in $(seq 60); do " + command + " >/tmp/said 2>&1; grep -q 'not stopped' /tmp/said || break; sleep 3; done; cat /tmp/said"
}

var renames = []step{
	on(1, "B8", "lvchange -an vg1/lv1b; vgrename vg1 vg1x", 0, `Lockspace for "vg1" not stopped on other hosts`),
	on(1, "B8", "vgs --noheadings -o vg_name", 0, "vg1", "!vg1x"),
	on(2, "A23", "lvchange -aey vg1/lv1b; lvcreate -l1 -n mine vg1", 0),
	on(2, "A23", "vgchange --lockstop vg1", 5, "LVs must first be deactivated"),
	on(2, "A23", "vgchange -an vg1; lvremove -y vg1/mine && vgchange --lockstop vg1", 0),
	on(2, "A23", "vgs vg1", 0, "Reading VG vg1 without a lock."),
	on(2, "A23", "lvcreate -l1 -n x vg1", 5),
	on(1, "A29", "lvchange -an vg1; "+left("vgrename vg1 vg1r"), 0, `Volume group "vg1" successfully renamed to "vg1r"`),
	on(1, "A29", "for i in $(seq 60); do CTL -i | grep -q 'LK VG' && break; sleep 1; done; CTL -i", 0, "LS sanlock lvm_vg1r"),
	on(1, "A29", "sleep 10; lvchange -aey vg1r/lv1b && lvchange -an vg1r/lv1b && vgrename vg1r vg1", 0),
	on(1, "A29", "for i in $(seq 60); do vgs vg1 2>&1 | grep -q skipped || break; sleep 1; done; lvs vg1", 0, "lv1b"),
}

var globalLock = []step{
	on(1, "A17", "vgcreate --shared vg2 /dev/vdb", 0, `Volume group "vg2" successfully created`, "!Enabling sanlock global lock"),
	on(1, "A18", "CTL --gl-enable vg2", 0),
	on(1, "A20", "CTL --gl-disable nosuch", 0),
	on(1, "A20", "pvcreate -y /dev/vdc", 0),
	on(1, "A19", "CTL --gl-disable vg1", 0),
	on(1, "A19", "pvcreate -y /dev/vdc", 5, "Global lock failed"),
	on(1, "A19", "CTL --gl-enable vg2 && vgs", 0, "!WARNING", "!Skipping"),
	on(1, "A19", "pvcreate -y /dev/vdc", 0),
	on(1, "A19", "CTL --gl-disable vg2; CTL --gl-enable vg1; pvcreate -y /dev/vdc", 0),
}

var stops = []step{
	on(1, "A23", "vgchange --lockstop vg2", 0),
	// On a busy machine a command may take longer to start than the lockspace takes to be joined.
	on(1, "A22", "for i in 1 2 3 4 5; do vgchange --lockstart --lockopt nowait vg2; lvcreate -an -Zn -l1 -n x vg2 || exit; "+
		"lvremove -y vg2/x; vgchange --lockstop vg2; done", 5,
		"VG can only be read until locks are ready", "VG vg2 lock failed: lock start in progress"),
	on(1, "A22", "vgchange --lockstart vg2; vgs vg2", 0, "!skipped"),
}

var kills = []step{
	on(1, "A25", "CTL -e --kill vg2", 0, "lvmlockd lost access to locks in VG vg2."),
	on(1, "A25", "vgs", 0, "storage failed for sanlock leases"),
	on(1, "A25", "lvcreate -an -Zn -l1 -n y vg2", 5, "storage failed for sanlock leases"),
	on(1, "A25", "CTL -e --drop vg2", 0),
	on(1, "A25", untilTrue("! CTL -i | grep -q lvm_vg2")+"; CTL -i", 0, "!lvm_vg2"),
	on(1, "A25", "vgchange --lockstart vg2 && lvcreate -an -Zn -l1 -n y vg2", 0, `"y" created`),
}

var lockTypes = []step{
	on(1, "A27", "vgcreate vgl /dev/vdc && lvcreate -l1 -n a vgl && lvcreate -l1 -n b vgl && vgchange -an vgl", 0),
	on(1, "A27", "vgchange -y --locktype sanlock vgl", 0),
	on(1, "A27", "lvs --noheadings -o lv_lockargs vgl", 0, "1.0.0:70254592", "1.0.0:71303168"),
	on(1, "A27", "vgchange --lockstart vgl && lvchange -aey vgl/a && lvchange -an vgl/a", 0),
	on(1, "A28", "vgchange -y --locktype none vgl", 0),
	on(1, "A28", "lvs -a --noheadings -o lv_name,lv_lockargs vgl; vgs --noheadings -o attr vgl", 0, "wz--n-", "!1.0.0", "!lvmlock"),
	on(1, "A28", "vgchange -y --locktype sanlock vgl && vgchange --lockstart vgl && lvchange -aey vgl/a", 0),
	on(1, "A28", "CTL -i", 0, "LS sanlock lvm_vgl", "LK LV ex"),
}

var removals = []step{
	on(1, "A30", "lvchange -an vgl && vgremove -y vgl", 0, `Volume group "vgl" successfully removed`),
	on(1, "A30", "CTL -i", 0, "!lvm_vgl"),
	on(1, "A30", "vgremove -y vg1", 0, "VG vg1 held the sanlock global lock, enable global lock in another VG."),
	on(1, "A30", "vgs", 0, "Skipping global lock: VG with global lock was removed"),
	on(1, "A30", "pvcreate -y /dev/vda", 5, "Global lock failed: check that global lockspace is started"),
	on(1, "A30", "CTL --gl-enable vg2 && vgs && pvcreate -y /dev/vda", 0, "!Skipping"),
	on(2, "B2", "vgchange --lockstart vg2 || vgchange --lockstart vg2", 0),
	on(1, "B8", "vgremove -y vg2", 5, `Lockspace for "vg2" not stopped on other hosts`),
	on(1, "B8", "vgs --noheadings -o vg_name", 0, "vg2"),
	on(2, "B9", "vgchange --lockstop vg2", 0),
	on(1, "B9", left("vgremove -y vg2"), 0, `Volume group "vg2" successfully removed`),
}

// fullSlots is A31: all places for LV locks are taken, the lvmlock LV grows, and the other host, which has started the
// VG, learns of it.
var fullSlots = []step{
	on(1, "A31", "for i in $(seq 67 255); do "+
		"dd if=/dev/mapper/vg2-lvmlock bs=512 skip=$((i*2048)) count=1 2>/dev/null | grep -qa '#unused' || continue; "+
		"sanlock client init -r lvm_vg2:full$i:/dev/mapper/vg2-lvmlock:$((i*1048576)) >/dev/null || exit 1; done", 0),
	on(1, "A31", "lvcreate -an -Zn -l1 -n ext vg2", 0,
		"Size of logical volume vg2/lvmlock changed from 256.00 MiB (64 extents) to 512.00 MiB (128 extents).",
		"Zeroing 256 MiB on extended internal lvmlock LV...", `"ext" created`),
	on(1, "A31", "lvs --noheadings -o lv_lockargs vg2/ext", 0, "1.0.0:268435456"),
	on(2, "A31", "lvchange -aey vg2/ext && lvchange -an vg2/ext", 0),
	on(1, "A31", "lvchange -aey vg2/ext && lvremove -y vg2/ext", 0),
}

// adoption is A33: a daemon dies with LVs active, the next takes them over.
func (p *pair) adoption() {
	p.play("adopt-hold",
		on(1, "A33", "lvchange -aey vg2/c1 && lvchange -asy vg2/c2", 0),
		on(2, "A33", "lvchange -aey vg2/c1", 5, "LV locked by other host"))
	p.must(1, "sleep 3")
	if err := p.daemon["vm1 lvmlockd"].Signal(syscall.SIGKILL); err != nil {
		p.Fatal(err)
	}
	p.must(1, "sleep 2")
	p.lockd(1, "-A 1")
	p.play("adopted",
		on(1, "A33", "for i in $(seq 60); do CTL -i | grep -q 'LK LV ex' && break; sleep 1; done; CTL -i", 0, "LK LV ex", "LK LV sh"),
		on(2, "A33", "lvchange -aey vg2/c1", 5, "LV locked by other host"),
		on(2, "A33", "lvchange -aey vg2/c2", 5, "LV locked by other host"),
		on(1, "A33", "sleep 5; lvchange -an vg2/c1 vg2/c2", 0),
		on(1, "A33", "CTL -i", 0, "!LK LV ex", "!LK LV sh"),
		on(2, "A33", "lvchange -aey vg2/c1 && lvchange -an vg2/c1", 0))
}

var quits = []step{
	on(2, "A24", "vgchange --lockstop vg2; CTL -q; sleep 2; ls /run/lvmlockd.pid /run/lvm/lvmlockd.socket", 1,
		"lvmlockd.pid: No such file", "lvmlockd.socket: No such file"),
}

// deadHost is B11: a host loses its power with one LV in EX and one in SH.
func (p *pair) deadHost() {
	p.lockd(2, "")
	p.play("dead-host-hold",
		on(2, "B11", "vgchange --lockstart vg2 || vgchange --lockstart vg2", 0),
		on(1, "B11", "lvchange -aey vg2/c1 && lvchange -asy vg2/c2", 0))
	if err := p.rig.Machine(1).Cut(); err != nil {
		p.Fatal(err)
	}
	// Eight io_timeouts and a watchdog's minute, from the last renewal.
	p.play("dead-host",
		on(2, "B11", "lvchange -aey vg2/c1", 5, "LV locked by other host: vg2/c1"),
		on(2, "B11", "until lvchange -aey vg2/c1; do sleep 1; done", 0, "LV locked by other host").takes(60*time.Second, 3*time.Minute),
		on(2, "B11", "lvchange -aey vg2/c2 && lvchange -an vg2", 0))
	if err := p.rig.Machine(1).Boot(p.ctx); err != nil {
		p.Fatal(err)
	}
	p.configure(1)
	p.leases(1)
	p.lockd(1, "")
}

// lostStorage is B12: a host's disk fails while it holds an LV.
func (p *pair) lostStorage() {
	p.play("lost-storage-hold",
		on(1, "B12", "vgchange --lockstart vg2 || vgchange --lockstart vg2", 0),
		on(1, "B12", "lvchange -aey vg2/c1", 0))
	if err := p.rig.Machine(1).DiskFail(p.ctx, 1); err != nil {
		p.Fatal(err)
	}
	p.play("lost-storage",
		on(1, "B12", "for i in $(seq 240); do CTL -i -d | grep -q kill_vg=1 && exit; CTL -i | grep -qi kill && exit; sleep 0.5; done; exit 1", 0),
		on(2, "B12", "lvchange -aey vg2/c1", 5, "LV locked by other host"))
	// Once the LV is gone from the host, the VG is dropped, and the lease daemon may stop to renew in peace.
	p.play("dropped",
		on(1, "B12", "dmsetup remove --force vg2-c1; CTL --drop vg2", 0),
		on(1, "B12", "CTL -i", 0, "!lvm_vg2"),
		on(2, "B12", "until lvchange -aey vg2/c1; do sleep 1; done", 0).takes(0, 3*time.Minute))
}
