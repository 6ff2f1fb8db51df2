package vmtest

import (
	"encoding/base64"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tenurelock/tenure/tools/rig/vm"
)

// dlmCluster is the name of the cluster.
const dlmCluster = "tst"

const corosyncConf = `
totem {
  version: 2
  cluster_name: ` + dlmCluster + `
  transport: udpu
  crypto_cipher: none
  crypto_hash: none
  token: 10000
}
nodelist {
  node {
    ring0_addr: 10.9.0.1
    nodeid: 1
    name: vm1
  }
  node {
    ring0_addr: 10.9.0.2
    nodeid: 2
    name: vm2
  }
}
quorum {
  provider: corosync_votequorum
  two_node: 1
  wait_for_all: 0
}
logging {
  to_stderr: yes
  to_syslog: no
  timestamp: off
}
`

// cluster joins a host to the cluster that dlm needs.
func (p *pair) cluster(host int) {
	p.Helper()
	conf := base64.StdEncoding.EncodeToString([]byte(corosyncConf))
	p.must(host, vm.NetworkUp(host))
	p.must(host, "mkdir -p /etc/corosync /var/lib/corosync /var/log/cluster /run/corosync /run/dlm_controld /etc/dlm && "+
		"echo "+conf+" | base64 -d >/etc/corosync/corosync.conf && "+
		`printf 'enable_fencing=0\nenable_quorum_lockspace=0\n' >/etc/dlm/dlm.conf && `+
		"modprobe configfs && mount -t configfs configfs /sys/kernel/config && modprobe dlm")
	p.spawn(host, "corosync", "exec corosync -f")
	p.until(host, "corosync-quorumtool -s | grep -q 'Quorate: *Yes'")
	p.daemon[fmt.Sprintf("vm%d dlm_controld", host)] = p.spawn(host, "dlm_controld", "exec dlm_controld -D -K")
	p.until(host, "dlm_tool status | grep -q 'cluster nodeid'")
}

// startDLM boots two hosts of one dlm cluster.
func startDLM(t *testing.T, one, two stack) *pair {
	t.Helper()
	p := startPair(t, "dlm", one, two)
	p.cluster(1)
	p.cluster(2)
	for host := 1; host <= 2; host++ {
		p.until(host, "corosync-quorumtool -s | grep -q 'Total votes: *2'")
	}
	return p
}

// said is one command to a dlmshell, and how its answer goes on after the command.
type said struct {
	host          int
	command, want string
}

// shell starts a dlmshell, which reads what ask writes into a pipe.
func (p *pair) shell(host int) *vm.Command {
	p.Helper()
	p.must(host, "rm -f /tmp/dlm && mkfifo /tmp/dlm")
	c := p.spawn(host, "dlm", "exec "+vm.Ours+"dlmshell one "+dlmCluster+" <>/tmp/dlm")
	return c
}

func (p *pair) ask(all ...said) {
	p.Helper()
	for _, s := range all {
		begun := time.Now()
		p.must(s.host, "echo '"+s.command+"' >/tmp/dlm")
		line, err := p.rig.Log().Wait(p.ctx, vm.Match{Machine: s.host, Source: "dlm", Text: s.command + ": ", Since: begun})
		if err != nil {
			p.Fatal(err)
		}
		if got := strings.TrimPrefix(line.Text, s.command+": "); !strings.HasPrefix(got, s.want) {
			p.Errorf("vm%d: %s: %s, want %s", s.host, s.command, got, s.want)
		} else {
			p.Logf("vm%d: %s", s.host, line.Text)
		}
	}
}

// TestDLMKernel drives our lock manager over two real kernels (spec lvmlockd 5.1, 5.2).
func TestDLMKernel(t *testing.T) {
	t.Parallel()
	p := startDLM(t, allDebian, allDebian)
	p.shell(1)
	p.shell(2)
	const lv = "5xeQFY-2sTM-ZsIW-YUbT-ldMa-HAIe-92cXGy"
	p.ask(said{1, "join", "0 "}, said{1, "hosts", "0 0 others"}, said{2, "join", "0 "}, said{1, "hosts", "0 1 others"},
		said{1, "spaces", "0 lvm_one"},
		// Modes: EX against all, SH with SH, conversions, conflicts at once.
		said{1, "lock lv " + lv + " ex", "0 "}, said{2, "lock lv " + lv + " sh", "-11 "}, said{2, "lock lv " + lv + " ex", "-11 "},
		said{1, "convert lv " + lv + " ex sh", "0 "}, said{2, "lock lv " + lv + " sh", "0 "},
		said{1, "convert lv " + lv + " sh ex", "-11 "}, said{2, "unlock lv " + lv + " sh", "0 "},
		said{1, "convert lv " + lv + " sh ex", "0 "}, said{2, "lock lv " + lv + " sh", "-11 "},
		// The value block travels, and a removed VG is seen as such.
		said{1, "lock vg VGLK ex", "0 value 0"}, said{1, "unlock vg VGLK ex 12", "0 "},
		said{2, "lock vg VGLK sh", "0 value 12 removed false"}, said{2, "unlock vg VGLK sh", "0 "},
		said{2, "lock vg VGLK ex", "0 value 12"}, said{2, "convert vg VGLK ex sh 13", "0 "},
		said{1, "lock vg VGLK sh", "0 value 13"}, said{1, "unlock vg VGLK sh", "0 "}, said{2, "unlock vg VGLK sh", "0 "})
	p.kernelAdoption(lv)
	p.kernelLeave(lv)
}

// kernelAdoption kills the process that holds an LV; what it held goes on to keep vm2 out, and is taken over.
func (p *pair) kernelAdoption(lv string) {
	p.ask(said{1, "lock lv shared sh", "0 "}, said{1, "lock lv stale ex", "0 "})
	p.must(1, "kill -9 $(pidof dlmshell)")
	p.ask(said{2, "lock lv " + lv + " sh", "-11 "}, said{2, "lock lv shared ex", "-11 "}, said{2, "lock vg VGLK ex", "0 value 13"},
		said{2, "unlock vg VGLK ex 14", "0 "})
	p.shell(1)
	p.ask(said{1, "join", "-17 "}, said{1, "spaces", "0 lvm_one"}, said{1, "join adopt", "0 "},
		said{1, "lock lv " + lv + " sh adopt", "-224 "}, said{1, "lock lv " + lv + " ex adopt", "0 "},
		said{1, "lock lv shared sh adopt", "0 "}, said{1, "lock vg VGLK sh adopt", "-223 "},
		said{2, "lock lv stale sh", "-11 "}, said{1, "purge", "0 "}, said{2, "lock lv stale sh", "0 "},
		said{2, "lock lv " + lv + " sh", "-11 "}, said{1, "convert lv " + lv + " ex sh", "0 "},
		said{2, "lock lv " + lv + " sh", "0 "}, said{2, "unlock lv " + lv + " sh", "0 "},
		said{1, "convert lv " + lv + " sh ex", "0 "}, said{1, "lock vg VGLK sh", "0 value 14"}, said{1, "unlock vg VGLK sh", "0 "})
}

// kernelLeave: a host that leaves gives back what it holds, one that dies is fenced first. The kernel that kept the
// value block takes it along either way.
func (p *pair) kernelLeave(lv string) {
	p.ask(said{1, "lock vg VGLK ex", "0 "}, said{1, "free", "0 "}, said{2, "lock lv " + lv + " ex", "0 "},
		said{2, "lock vg VGLK ex", "0 value 0 removed false"}, said{2, "unlock vg VGLK ex 15", "0 "}, said{2, "hosts", "0 0 others"},
		said{1, "lock lv x sh", "-221 "}, said{1, "join", "0 "}, said{1, "lock lv " + lv + " sh", "-11 "},
		said{1, "lock lv mine ex", "0 "}, said{1, "lock vg VGLK ex", "0 value 15"})
	if err := p.rig.Machine(1).Cut(); err != nil {
		p.Fatal(err)
	}
	// Nobody fences here: an administrator says that the host is dead, as after a power cut.
	p.spawn(2, "fence", "for i in $(seq 120); do dlm_tool fence_ack 1 >/dev/null 2>&1; sleep 1; done")
	p.ask(said{2, "lock lv mine sh", "0 "}, said{2, "lock vg VGLK sh", "0 value 0"}, said{2, "leave", "0 "})
}

// TestLVMOverDLM plays the list with VGs of the type dlm (B14).
func TestLVMOverDLM(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		one, two stack
	}{{"Debian", allDebian, allDebian}, {"Tenure", allTenure, allTenure}, {"Tenure-and-Debian", allTenure, allDebian}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := startDLM(t, test.one, test.two)
			p.lockd(1, "-A 1")
			p.lockd(2, "")
			p.play("first-vg", dlmFirst...)
			p.play("two-hosts", dlmTwo...)
			if err := p.daemon["vm1 lvmlockd"].Signal(syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			p.must(1, "sleep 2")
			p.lockd(1, "-A 1")
			p.play("adopted", dlmAdopted...)
		})
	}
}

var dlmFirst = []step{
	on(1, "B14", "vgcreate --shared vgd /dev/vda", 0, `Volume group "vgd" successfully created`, "VG vgd starting dlm lockspace"),
	on(1, "B14", "vgs --noheadings -o lock_type,lock_args vgd", 0, "dlm", "1.0.0:"+dlmCluster),
	on(1, "B14", "CTL -i", 0, "LS dlm lvm_vgd", "lvm_global"),
	on(1, "B14", "lvcreate -l4 -n lv1 vgd", 0),
	on(1, "B14", "lvs --noheadings -o lv_lockargs vgd/lv1", 0, "dlm"),
	on(1, "B14", "lvcreate -an -Zn -l1 -n lv2 vgd", 0),
}

var dlmTwo = []step{
	on(2, "B1", "vgs vgd", 0, "Reading VG vgd without a lock."),
	on(2, "B2", "vgchange --lockstart vgd", 0),
	on(2, "B2", "CTL -i", 0, "LS dlm lvm_vgd"),
	on(2, "B3", "lvchange -aey vgd/lv1", 5, "LV locked by other host: vgd/lv1"),
	on(2, "B3", "lvchange -asy vgd/lv1", 5, "LV locked by other host: vgd/lv1").takes(0, 10*time.Second),
	on(1, "B4", "lvchange -an vgd/lv1 && lvchange -asy vgd/lv1", 0),
	on(2, "B4", "lvchange -asy vgd/lv1", 0),
	on(2, "B4", "lvchange -aey vgd/lv1", 5, "LV locked by other host"),
	on(1, "A11", "lvextend --lockopt shupdate -l+1 vgd/lv1", 0),
	on(2, "B4", "lvchange -an vgd/lv1", 0),
	on(1, "A10", "lvchange -aey vgd/lv1", 0),
	on(2, "B5", "lvremove -y vgd/lv1", 5),
	on(1, "B14", "lvchange -an vgd/lv1; lvchange -asy vgd/lv1; lvextend --lockopt skiplv -l+1 vgd/lv1", 0,
		"skipping LV lock in lvmlockd"),
	on(2, "B10", "lvextend -l+1 vgd/lv2", 0),
	on(1, "B10", "lvchange -aey vgd/lv2 && lvs --noheadings -o lv_size vgd/lv2", 0, "8.00m"),
	on(1, "B8", "lvchange -an vgd; vgremove -y vgd", 5, `Lockspace for "vgd" not stopped on other hosts`),
	// It removes the LVs before it looks whether it may.
	on(1, "B9", "lvcreate -an -Zn -l1 -n lv1 vgd && lvcreate -an -Zn -l1 -n lv2 vgd", 0),
	on(2, "B9", "vgchange --lockstop vgd", 0),
	on(1, "B9", "vgrename vgd vge", 0, "successfully renamed"),
	on(1, "A29", "for i in $(seq 60); do vgs vge 2>&1 | grep -q skipped || break; sleep 1; done; CTL -i", 0, "LS dlm lvm_vge"),
	on(2, "B2", "vgchange --lockstart vge", 0),
	on(1, "A33", "lvchange -aey vge/lv1 && lvchange -asy vge/lv2 && sleep 3", 0),
}

var dlmAdopted = []step{
	on(2, "A33", "lvchange -aey vge/lv1", 5, "LV locked by other host"),
	on(1, "A33", "for i in $(seq 60); do CTL -i | grep -q 'LK LV ex' && break; sleep 1; done; CTL -i", 0, "LK LV ex", "LK LV sh"),
	on(2, "A33", "lvchange -aey vge/lv2", 5, "LV locked by other host"),
	on(1, "A33", "sleep 5; lvchange -an vge", 0),
	on(2, "A33", "lvchange -aey vge/lv1 && lvchange -an vge/lv1 && vgchange --lockstop vge", 0),
	on(1, "A30", "vgremove -y vge", 0, `Volume group "vge" successfully removed`),
	on(1, "A30", "CTL -i", 0, "!lvm_vge"),
}
