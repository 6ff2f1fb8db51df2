package vmtest

// What spec lvmlockd 6.2 leaves to the reader: what LVM makes of LVs and PVs beside plain LVs.

// moves: pvmove makes its own temporary LV, and lvmpolld's commands go on with it, under the moved LV's lock.
var moves = []step{
	on(1, "move", "vgcreate --shared vg3 /dev/vda && vgextend vg3 /dev/vdb /dev/vdc && lvcreate -l4 -n mv vg3 /dev/vdb", 0),
	on(2, "move", "vgchange --lockstart vg3 || vgchange --lockstart vg3", 0),
	on(1, "move", "pvmove -i1 -n mv /dev/vdb /dev/vdc && lvs --noheadings -o devices vg3/mv", 0, "Moved: ", "/dev/vdc(0)"),
	on(2, "move", "lvchange -aey vg3/mv", 5, "LV locked by other host: vg3/mv"),
	on(1, "move", "pvmove -i1 /dev/vdc /dev/vdb", 5, "pvmove in a shared VG requires a named LV."),
	on(1, "move", "pvmove -i1 -n lvmlock /dev/vda /dev/vdb", 5, "pvmove not allowed on internal sanlock LV."),
	on(1, "move", "lvchange -an vg3/mv && pvmove -i1 -n mv /dev/vdc /dev/vdb && CTL -i", 0, "Moved: ", "LK LV ex"),
	on(1, "move", "lvchange -an vg3/mv && lvchange -asy vg3/mv && pvmove -i1 -n mv /dev/vdb /dev/vdc && CTL -i", 0,
		"Moved: ", "LK LV ex", "!LK LV sh"),
	on(1, "move", "lvchange -an vg3/mv", 0),
	on(2, "move", "lvchange -asy vg3/mv", 0),
	on(1, "move", "pvmove -i1 -n mv /dev/vdc /dev/vdb", 5, "LV locked by other host: vg3/mv",
		"pvmove in a shared VG requires exclusive lock on named LV."),
	on(2, "move", "lvchange -an vg3/mv", 0),
	on(1, "move", "lvchange -aey vg3/mv && lvextend -l100 vg3/mv /dev/vdc && pvmove -i1 -b --atomic -n mv /dev/vdc /dev/vdb", 0),
	on(2, "move", "lvchange -aey vg3/mv", 5, "LV locked by other host: vg3/mv"),
	on(2, "move", "lvcreate -an -Zn -l1 -n meanwhile vg3 && lvremove -y vg3/meanwhile", 0),
	on(1, "move", untilTrue("! lvs -a vg3 | grep -q pvmove")+"; lvs -a --noheadings -o lv_name,devices vg3", 0,
		"/dev/vdb(0)", "!/dev/vdc", "!pvmove"),
	on(1, "move", "lvreduce -y -f -l4 vg3/mv", 0),
}

// types: what is made of several LVs has one lock, and is active on one host.
var types = []step{
	on(1, "raid", "lvcreate -y --type raid1 -m1 --nosync -l2 -n r1 vg3 /dev/vdb /dev/vdc", 0),
	on(1, "raid", "lvs -a --noheadings -o lv_lockargs vg3 | grep -c 1.0.0", 0, "2"), // mv and r1
	on(2, "raid", "lvchange -aey vg3/r1", 5, "LV locked by other host: vg3/r1"),
	on(1, "raid", "lvchange -an vg3/r1; lvchange -asy vg3/r1", 5, "Shared activation not compatible with LV type raid1 of vg3/r1"),
	on(1, "raid", "lvchange -aey vg3/r1 && lvconvert -y -m0 vg3/r1 /dev/vdc && lvconvert -y --type raid1 -m1 vg3/r1 /dev/vdc", 0),
	on(1, "raid", "lvconvert -y --splitmirrors 1 -n r2 vg3/r1", 5, "not allowed with lock_type sanlock"),
	on(1, "raid", "lvremove -y vg3/r1", 0),
	on(1, "cache", "lvcreate -an -Zn -l4 -n fast vg3 /dev/vdc && "+
		"lvconvert -y --type cache --cachevol fast --chunksize 64k vg3/mv && CTL -i | grep -c 'LK LV ex'", 0, "is now cached", "1"),
	on(2, "cache", "lvchange -aey vg3/mv", 5, "LV locked by other host: vg3/mv"),
	on(1, "cache", "lvconvert -y --splitcache vg3/mv && lvremove -y vg3/fast", 0),
	on(1, "cache", "lvchange -an vg3/mv && lvcreate -an -Zn -l4 -n fast vg3 /dev/vdc && "+
		"lvconvert -y --type writecache --cachevol fast vg3/mv && lvchange -aey vg3/mv", 0, "now has writecache"),
	on(2, "cache", "lvchange -aey vg3/mv", 5, "LV locked by other host: vg3/mv"),
	on(1, "cache", "lvchange -an vg3/mv && lvconvert -y --uncache vg3/mv", 0, `"fast" successfully removed`),
	on(2, "cache", "lvchange -aey vg3/mv && lvchange -an vg3/mv", 0),
	on(1, "merge", "lvchange -aey vg3/mv && lvcreate -s -l2 -n snap vg3/mv && lvconvert --merge vg3/snap", 0, "Merged: 100.00%"),
	on(1, "merge", "lvremove -y vg3/mv && CTL -i", 0, "!LK LV ex", "!LK LV sh"),
}

// volumes: PVs come and go, and all lockspaces are stopped at once.
var volumes = []step{
	on(1, "pvs", "vgreduce vg3 /dev/vda", 5, "still in use"), // by the lvmlock LV
	on(1, "pvs", "vgreduce vg3 /dev/vdc && pvremove /dev/vdc", 0, `Removed "/dev/vdc"`),
	on(2, "pvs", "vgs --noheadings -o pv_count vg3", 0, "2"),
	on(1, "pvs", "pvresize /dev/vdb && pvchange -xn /dev/vdb && pvchange -xy /dev/vdb", 0),
	on(1, "pvs", "vgcreate --shared vg4 /dev/vdc && vgmerge vg3 vg4", 5, "vgmerge not allowed for lock_type sanlock"),
	on(1, "stop-all", "lvcreate -l1 -n x vg3 && CTL --stop-lockspaces --wait 0; CTL -i", 0, "LK LV ex"),
	on(1, "stop-all", "lvchange -an vg3/x && CTL --stop-lockspaces --wait 1 && CTL -i", 0, "!LS"),
	on(2, "stop-all", "lvchange -aey vg3/x && lvchange -an vg3/x && CTL -S && CTL -i", 0, "!LS"),
}

// pools: the LV that becomes a pool is locked while its lock is given back. Debian's lvmlockd forgets the lock and keeps
// the lease, and does not stop the VG any more; ours gives the lease back first.
var pools = []step{
	on(1, "pool", "vgchange --lockstart vg3 && lvcreate -an -Zn -l4 -n pool vg3", 0),
	on(1, "pool", "lvconvert -y --type thin-pool -Zn vg3/pool", 0, "Converted vg3/pool to thin pool"),
	on(1, "pool", "lvcreate -y -an -Zn -l4 -n mv vg3 && lvconvert -y --type thin --thinpool pool vg3/mv", 5,
		"Can't use lock_type sanlock LV as external origin."),
	on(1, "pool", "lvcreate --type thin -V16M --thinpool pool -n th vg3 && lvs -a --noheadings -o lv_name,lv_lockargs vg3 | grep 1.0.0",
		0, "mv", "pool", "!pool_t", "!th  "),
	on(2, "pool", "vgchange --lockstart vg3 && lvchange -aey vg3/th", 5, "LV locked by other host: vg3/pool"),
	on(1, "pool", "lvremove -y vg3/th vg3/pool vg3/mv && CTL -i", 0, "!LK LV ex", "!LK LV sh"),
	on(1, "pool", "sanlock client status | grep -c '^r.*lvm_vg3:[^:]*-'", 1, "0").ofOurs(),
	// Of the first five places only that of x is taken.
	on(1, "pool", "n=0; for i in 67 68 69 70 71; do dd if=/dev/mapper/vg3-lvmlock bs=1M skip=$i count=1 2>/dev/null | head -c 512 | "+
		"grep -q -a '#unused' && n=$((n+1)); done; echo free $n; lvs --noheadings vg3", 0, "free 4", "x "),
	on(1, "pool", "CTL --stop-lockspaces --wait 1 && CTL -i", 0, "!LS").ofOurs(),
}
