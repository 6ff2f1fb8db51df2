package vm

import (
	"fmt"
	"os/exec"
	"path/filepath"
)

// LVM is the standard guest with Debian's LVM, lvmlockd, corosync and dlm_controld, which must be installed here,
// and our dlmshell. Each lvm command is a link to one program.
func LVM() (Guest, error) {
	g := Standard()
	for _, name := range []string{
		"lvm", "lvmpolld", "dmsetup", "lvmlockd", "lvmlockctl", "corosync", "corosync-quorumtool", "dlm_controld", "dlm_tool",
	} {
		path, err := exec.LookPath(filepath.Join("/usr/sbin", name))
		if err != nil {
			return Guest{}, fmt.Errorf("%w (install lvm2-lockd, corosync and dlm-controld)", err)
		}
		g.Files[path] = path
	}
	for _, name := range []string{
		"pvcreate", "pvchange", "pvmove", "pvremove", "pvresize", "pvs", "vgcreate", "vgchange", "vgck", "vgexport", "vgextend",
		"vgimport", "vgmerge", "vgreduce", "vgremove", "vgrename", "vgs", "vgsplit", "lvcreate", "lvchange", "lvconvert",
		"lvextend", "lvreduce", "lvremove", "lvrename", "lvs",
	} {
		g.Links["/usr/sbin/"+name] = "lvm"
	}
	g.Built[Ours+"dlmshell"] = "github.com/tenurelock/tenure/tools/rig/dlmshell"
	return g, nil
}
