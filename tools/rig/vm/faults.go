package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"syscall"
	"time"
)

// Cut takes the power away: what the guest had not written is lost. A machine that is off stays so.
func (m *Machine) Cut() error {
	p, err := m.running()
	if errors.Is(err, errOff) {
		return nil
	}
	m.note("power cut")
	if err := syscall.Kill(-p.program.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("vm%d: cut the power: %w", m.id, err)
	}
	select {
	case <-p.gone:
		return nil
	case <-time.After(m.rig.options.Kill):
		return fmt.Errorf("vm%d: QEMU (process %d) is still there %v after SIGKILL", m.id, p.program.Process.Pid,
			m.rig.options.Kill)
	}
}

func (m *Machine) signal(s syscall.Signal, what string) error {
	p, err := m.running()
	if err != nil {
		return err
	}
	m.note(what)
	return p.program.Process.Signal(s)
}

// Freeze stops the machine while its clocks run on, as a host that is stalled: after Thaw it sees how long it
// was away, and a watchdog of its kernel fires at once.
func (m *Machine) Freeze() error { return m.signal(syscall.SIGSTOP, "frozen") }

// Thaw ends Freeze.
func (m *Machine) Thaw() error { return m.signal(syscall.SIGCONT, "thawed") }

func (m *Machine) ask(ctx context.Context, note, command string, arguments map[string]any) (json.RawMessage, error) {
	p, err := m.running()
	if err != nil {
		return nil, err
	}
	if note != "" {
		m.note(note)
	}
	out, err := p.qmp.ask(ctx, command, arguments)
	if err != nil {
		return nil, fmt.Errorf("vm%d: %w", m.id, err)
	}
	return out, nil
}

// Pause stops the machine and its clocks, as a snapshot or a migration does: nothing in the guest can notice.
func (m *Machine) Pause(ctx context.Context) error {
	_, err := m.ask(ctx, "paused", "stop", nil)
	return err
}

// Resume ends Pause.
func (m *Machine) Resume(ctx context.Context) error {
	_, err := m.ask(ctx, "resumed", "cont", nil)
	return err
}

// Reset presses the reset button.
func (m *Machine) Reset(ctx context.Context) error {
	_, err := m.ask(ctx, "reset", "system_reset", nil)
	return err
}

func diskPath(disk int) string { return fmt.Sprintf("/machine/peripheral/disk%d", disk) }

func (m *Machine) setBackend(ctx context.Context, note string, disk int, node string) error {
	_, err := m.ask(ctx, note, "qom-set", map[string]any{"path": diskPath(disk), "property": "drive", "value": node})
	return err
}

// throttle bounds a disk's traffic; 0 is without bound.
func (m *Machine) throttle(ctx context.Context, note string, disk, bytesPerSecond, requestsPerSecond int) error {
	_, err := m.ask(ctx, note, "block_set_io_throttle", map[string]any{
		"id": diskPath(disk) + "/virtio-backend", "bps": bytesPerSecond, "bps_rd": 0, "bps_wr": 0,
		"iops": requestsPerSecond, "iops_rd": 0, "iops_wr": 0,
	})
	return err
}

// DiskFail makes every transfer of a disk fail with EIO from now on; those in flight end first.
func (m *Machine) DiskFail(ctx context.Context, disk int) error {
	return m.setBackend(ctx, fmt.Sprintf("disk %d fails", disk), disk, nodeFailing(disk))
}

// DiskHang lets every transfer of a disk wait until DiskOK: processes are in state D, where no signal reaches
// them. After DiskOK the waiting writes do reach the disk.
func (m *Machine) DiskHang(ctx context.Context, disk int) error {
	return m.throttle(ctx, fmt.Sprintf("disk %d hangs", disk), disk, 1, 0)
}

// DiskSlow lets a disk do so many transfers a second.
func (m *Machine) DiskSlow(ctx context.Context, disk, perSecond int) error {
	return m.throttle(ctx, fmt.Sprintf("disk %d does %d transfers/s", disk, perSecond), disk, 0, perSecond)
}

// DiskOK ends DiskFail, DiskHang and DiskSlow.
func (m *Machine) DiskOK(ctx context.Context, disk int) error {
	if err := m.throttle(ctx, fmt.Sprintf("disk %d is well", disk), disk, 0, 0); err != nil {
		return err
	}
	answer, err := m.ask(ctx, "", "qom-get", map[string]any{"path": diskPath(disk), "property": "drive"})
	if err != nil {
		return err
	}
	// QEMU 7.2 aborts when it is told to use the node that it uses.
	if string(answer) == fmt.Sprintf("%q", nodeGood(disk)) {
		return nil
	}
	return m.setBackend(ctx, "", disk, nodeGood(disk))
}

// DiskUnplug takes the disk out; the guest must agree to it, so it is out only when Plug succeeds or the log
// has the event DEVICE_DELETED.
func (m *Machine) DiskUnplug(ctx context.Context, disk int) error {
	_, err := m.ask(ctx, fmt.Sprintf("disk %d unplugged", disk), "device_del",
		map[string]any{"id": fmt.Sprintf("disk%d", disk)})
	return err
}

// DiskPlug puts an unplugged disk back in. Its name in the guest's /dev may be another; in /dev/rig it is not.
func (m *Machine) DiskPlug(ctx context.Context, disk int) error {
	_, err := m.ask(ctx, fmt.Sprintf("disk %d plugged in", disk), "device_add",
		m.rig.options.Disks[disk].device(disk))
	return err
}
