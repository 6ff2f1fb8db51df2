package vmtest

import (
	"os"
	"strings"
	"testing"

	"github.com/tenurelock/tenure/tools/rig/vm"
)

// sectorDisk is large enough for lock LVs whose leases are of 8 MiB.
const sectorDisk = int64(4 << 30)

// TestLVMSectors plays the life of a VG on disks with sectors of 4096 bytes, and on those that have them inside and
// emulate ones of 512, which most disks do today. LVM keeps leases of 8 MiB in sectors of 4096 bytes on both; who made
// the VG decides, and the other kind of host must find the same leases.
func TestLVMSectors(t *testing.T) {
	t.Parallel()
	disks := []struct {
		name  string
		sizes vm.Disk
	}{
		{"4Kn", vm.Disk{SectorSize: 4096}},
		{"512e", vm.Disk{SectorSize: 512, PhysicalSize: 4096}},
	}
	pairs := []lvmPair{
		{"Debian", allDebian, allDebian},
		{"Tenure-and-Debian", allTenure, allDebian},
		{"Debian-and-Tenure", allDebian, allTenure},
	}
	for _, disk := range disks {
		for _, test := range pairs {
			t.Run(disk.name+"-"+test.name, func(t *testing.T) {
				t.Parallel()
				p := startPair(t, "sanlock", test.one, test.two, func(o *vm.Options) {
					for i := range o.Disks {
						o.Disks[i].SectorSize, o.Disks[i].PhysicalSize = disk.sizes.SectorSize, disk.sizes.PhysicalSize
						if err := os.Truncate(o.Disks[i].Path, sectorDisk); err != nil {
							t.Fatal(err)
						}
					}
				})
				for host := 1; host <= 2; host++ {
					p.leases(host)
					p.lockd(host, "")
				}
				p.play("life", largeSectors...)
				p.versions("vg1")
				p.play("full", largeFull...)
				p.versions("vg1")
				p.play("end", largeEnd...)
			})
		}
	}
}

// largeSectors is the life of a VG with leases of 8 MiB: the first of an LV is at 67 times that, and LVM makes a lock LV
// of 1 GiB.
var largeSectors = []step{
	on(1, "A4", "cat /sys/block/vda/queue/physical_block_size", 0, "4096"),
	on(1, "A4", "vgcreate --shared vg1 /dev/vda", 0, `Volume group "vg1" successfully created`),
	on(1, "A5", "lvs -a --noheadings vg1", 0, "[lvmlock]", "1.00g"),
	on(1, "A5", "sanlock direct read_leader -s lvm_vg1:1:/dev/mapper/vg1-lvmlock:0", 0, "sector_size 4096", "flags 0x80"),
	on(2, "B2", "vgchange --lockstart vg1 || vgchange --lockstart vg1", 0),
	on(1, "A7", "lvcreate -n a -l1 vg1 && lvs --noheadings -o lv_lockargs vg1/a", 0, "1.0.0:562036736"),
	on(2, "B3", "lvchange -aey vg1/a", 5, "LV locked by other host: vg1/a"),
	on(2, "A13", "lvcreate -an -Zn -l1 -n b vg1 && lvs --noheadings -o lv_lockargs vg1/b", 0, "1.0.0:570425344"),
	on(1, "B4", "lvchange -an vg1/a && lvchange -asy vg1/a", 0),
	on(2, "B4", "lvchange -asy vg1/a", 0),
	on(2, "B4", "lvchange -aey vg1/a", 5, "LV locked by other host"),
	on(1, "A11", "lvextend --lockopt shupdate,norefresh -l+1 vg1/a", 0, "successfully resized"),
	on(1, "B4", "lvchange -an vg1/a", 0),
	on(2, "B4", "lvchange -aey vg1/a && lvs --noheadings -o lv_size vg1/a", 0, "8.00m"),
	on(2, "A13", "lvremove -y vg1/b", 0),
	on(1, "A13", "dd if=/dev/mapper/vg1-lvmlock bs=8M skip=68 count=1 2>/dev/null | head -c 4096 | grep -a -o '#unused'", 0, "#unused"),
}

// largeFull fills the lock LV, and lets it grow.
var largeFull = []step{
	on(1, "A31", "for i in $(seq 67 127); do "+
		"dd if=/dev/mapper/vg1-lvmlock bs=4096 skip=$((i*2048)) count=1 2>/dev/null | grep -qa '#unused' || continue; "+
		"sanlock client init -Z 4096 -A 8M -r lvm_vg1:full$i:/dev/mapper/vg1-lvmlock:$((i*8388608)) >/dev/null || exit 1; done", 0),
	on(1, "A31", "lvcreate -an -Zn -l1 -n ext vg1", 0,
		"Size of logical volume vg1/lvmlock changed from 1.00 GiB (256 extents) to 1.25 GiB", `"ext" created`),
	on(1, "A31", "lvs --noheadings -o lv_lockargs vg1/ext", 0, "1.0.0:1073741824"),
	on(2, "A31", "lvchange -aey vg1/ext", 0),
	on(1, "A31", "lvchange -aey vg1/ext", 5, "LV locked by other host"),
}

// largeEnd lets host 1 rename the VG and remove it.
var largeEnd = []step{
	on(2, "A23", "vgchange -an vg1 && vgchange --lockstop vg1", 0),
	on(1, "A29", "vgchange -an vg1; "+left("vgrename vg1 vg2"), 0, `Volume group "vg1" successfully renamed to "vg2"`),
	on(1, "A29", untilTrue("CTL -i | grep -q 'LK VG'")+"; CTL -i", 0, "LS sanlock lvm_vg2"),
	on(2, "B2", "vgchange --lockstart vg2 || vgchange --lockstart vg2", 0),
	on(2, "B2", "lvchange -aey vg2/ext && lvchange -an vg2/ext && vgchange --lockstop vg2", 0),
	on(1, "B9", left("vgremove -y vg2"), 0, `Volume group "vg2" successfully removed`),
}

// versions sees that both hosts have the same version of the VG's metadata, once both have read it.
func (p *pair) versions(vg string) {
	p.Helper()
	var seen [2]string
	for i := range seen {
		out := p.must(i+1, "vgs "+vg+" && "+p.ctl(i+1)+" -i")
		_, rest, _ := strings.Cut(out, "LK VG un ver ")
		seen[i], _, _ = strings.Cut(rest, "\n")
	}
	if seen[0] != seen[1] || seen[0] == "" || seen[0] == "0" {
		p.Errorf("the hosts have versions %q of VG %s", seen, vg)
	}
}
