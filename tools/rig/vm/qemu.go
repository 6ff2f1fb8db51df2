package vm

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/tenurelock/tenure/tools/rig/wire"
)

// The block nodes of a disk: the file, and one that answers every transfer with EIO.
func nodeGood(disk int) string    { return fmt.Sprintf("disk%dgood", disk) }
func nodeFailing(disk int) string { return fmt.Sprintf("disk%dfailing", disk) }

// device is the virtio disk, as arguments of -device and device_add.
func (d Disk) device(disk int) map[string]any {
	return map[string]any{
		"driver": "virtio-blk-pci", "id": fmt.Sprintf("disk%d", disk), "drive": nodeGood(disk),
		"serial": fmt.Sprintf("disk%d", disk), "share-rw": true, "write-cache": "on",
		"logical_block_size": d.SectorSize, "physical_block_size": max(d.SectorSize, d.PhysicalSize),
		"rerror": "report", "werror": "report",
	}
}

// nodes are the block nodes behind a disk. The file goes through the host's page cache; see the package comment.
func (d Disk) nodes(disk int) ([]map[string]any, error) {
	path, err := filepath.Abs(d.Path)
	if err != nil {
		return nil, err
	}
	file, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	const eio = 5
	return []map[string]any{
		{
			"driver": "file", "node-name": fmt.Sprintf("disk%dfile", disk), "filename": path, "aio": "threads",
			"cache": map[string]any{"direct": false, "no-flush": false},
		},
		{"driver": "raw", "node-name": nodeGood(disk), "file": fmt.Sprintf("disk%dfile", disk)},
		{
			"driver": "blkdebug", "node-name": nodeFailing(disk),
			"image":        map[string]any{"driver": "null-co", "size": file.Size()},
			"inject-error": []any{map[string]any{"event": "none", "errno": eio}},
		},
	}, nil
}

// arguments are QEMU's. Its monitor, the console and the agent's port are inherited as descriptors 3, 4 and 5.
func (o Options) arguments(id int) ([]string, error) {
	reboot := "reset"
	if o.StayDown {
		reboot = "shutdown"
	}
	modules := []string{"virtio_pci", "virtio_console", "virtio_blk"}
	a := []string{
		"-name", fmt.Sprintf("vm%d", id), "-nodefaults", "-no-user-config", "-display", "none",
		"-machine", "pc", "-accel", "tcg,thread=multi", "-cpu", "max", "-m", fmt.Sprint(o.MemoryMB), "-smp", "1",
		"-kernel", o.Image.Kernel, "-initrd", o.Image.Initrd,
		"-chardev", "socket,id=monitor,fd=3", "-mon", "chardev=monitor,mode=control",
		"-chardev", "socket,id=console,fd=4", "-serial", "chardev:console",
		"-device", "virtio-serial-pci,id=ports",
		"-chardev", "socket,id=agent,fd=5", "-device", "virtserialport,bus=ports.0,chardev=agent,name=" + wire.Port,
		"-action", "reboot=" + reboot + ",shutdown=poweroff,watchdog=reset",
	}
	if o.Watchdog == I6300ESB {
		a = append(a, "-device", "i6300esb,id=watchdog")
	}
	if o.Watchdog != NoWatchdog {
		modules = append(modules, string(o.Watchdog))
	}
	for i, d := range o.Disks {
		nodes, err := d.nodes(i)
		if err != nil {
			return nil, fmt.Errorf("disk %d: %w", i, err)
		}
		for _, node := range nodes {
			a = append(a, "-blockdev", asJSON(node))
		}
		a = append(a, "-device", asJSON(d.device(i)))
	}
	// A kernel that is given too little time by a busy host believes that its timer does not work: no_timer_check.
	return append(a, "-append", fmt.Sprintf("console=ttyS0 loglevel=4 panic=1 mitigations=off nokaslr no_timer_check%s "+
		"cryptomgr.notests rdinit=/init rig.id=%d rig.mods=%s", clockParameters(), id, strings.Join(modules, ","))), nil
}

// clockParameters tell the kernel how fast its clock is, and not to look for faults of it. A kernel that is given too
// little time by a busy host while it measures that, goes on several times too fast. Where it notices, it goes by the hpet,
// which loses 43 s of a freeze.
var clockParameters = sync.OnceValue(func() string {
	if kHz := measureTSC(); kHz != 0 {
		return fmt.Sprintf(" tsc=reliable tsc_early_khz=%d", kHz)
	}
	return ""
})

func asJSON(v map[string]any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // maps of strings, numbers and such maps
	}
	return string(text)
}
