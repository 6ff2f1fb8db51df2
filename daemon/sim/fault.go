package sim

import (
	"fmt"
	"time"
)

// FailDisk makes every transfer of the host end with an error.
func (h *Host) FailDisk() { h.disk(failing, "disk fails") }

// UnplugDisk takes the disk away.
func (h *Host) UnplugDisk() { h.disk(unplugged, "disk unplugged") }

// HangDisk makes every transfer of the host wait.
func (h *Host) HangDisk() { h.disk(hanging, "disk hangs") }

// HealDisk ends all three. What waited is done then.
func (h *Host) HealDisk() { h.disk(working, "disk works") }

func (h *Host) disk(to condition, what string) {
	h.world.note(h.name, "%s", what)
	for space := range Spaces {
		h.cable.set(space, to)
	}
}

// HangSpace is HangDisk for what belongs to one lockspace.
func (h *Host) HangSpace(space int) { h.cable.set(space, hanging) }

// FailSpace is FailDisk for what belongs to one lockspace.
func (h *Host) FailSpace(space int) { h.cable.set(space, failing) }

// HealSpace is HealDisk for what belongs to one lockspace.
func (h *Host) HealSpace(space int) { h.cable.set(space, working) }

// LateAnswers has the disk answer writes late. They are done, and others see them, at once.
func (h *Host) LateAnswers(late time.Duration) { h.cable.delay(late) }

// CutPower ends the machine at once.
func (h *Host) CutPower() { h.off("power cut") }

// KillLeaseDaemon kills the lease daemon. Its users learn of it only by their connection.
func (h *Host) KillLeaseDaemon() {
	h.world.note(h.name, "lease daemon killed")
	h.sanlock.die()
}

// StopLeaseDaemon stops the lease daemon as SIGSTOP does.
func (h *Host) StopLeaseDaemon() {
	h.world.note(h.name, "lease daemon stopped")
	h.sanlock.process.stop()
}

// KillWatchdogDaemon kills the watchdog daemon.
func (h *Host) KillWatchdogDaemon() {
	h.world.note(h.name, "watchdog daemon killed")
	h.wdmd.die(h.dog)
}

// StopWatchdogDaemon stops the watchdog daemon as SIGSTOP does.
func (h *Host) StopWatchdogDaemon() {
	h.world.note(h.name, "watchdog daemon stopped")
	h.wdmd.process.stop()
}

// KillBoth kills both daemons.
func (h *Host) KillBoth() {
	h.KillLeaseDaemon()
	h.KillWatchdogDaemon()
}

// StopBoth stops both daemons as SIGSTOP does.
func (h *Host) StopBoth() {
	h.StopLeaseDaemon()
	h.StopWatchdogDaemon()
}

// Freeze stops all processes of the machine. The watchdog counts on, as a chip on the board does.
func (h *Host) Freeze() { h.freeze(false) }

// FreezeKernel is Freeze, and the watchdog is a timer of the kernel: it is served when the machine is
// thawed, before any process.
func (h *Host) FreezeKernel() { h.freeze(true) }

func (h *Host) freeze(sleepy bool) {
	w := h.world
	w.mu.Lock()
	h.frozen, h.sleepy = true, sleepy
	w.noteLocked(h.name, "frozen")
	mine := h.holdsLocked()
	w.mu.Unlock()
	for _, o := range mine {
		o.stop()
	}
	if h.wdmd != nil {
		h.wdmd.process.stop()
	}
	h.sanlock.process.stop()
}

// Thaw ends a freeze. A machine whose watchdog ran out meanwhile is reset; the processes of any other run
// on, and the judge looks at what they hold.
func (h *Host) Thaw() {
	w := h.world
	w.mu.Lock()
	w.noteLocked(h.name, "thawed")
	due := h.due
	h.frozen = false
	var dead []*Hold
	for _, k := range h.killers {
		if k.due {
			dead = append(dead, k.hold)
		}
	}
	mine := h.holdsLocked()
	w.mu.Unlock()
	if due {
		h.off("reset")
		return
	}
	for _, o := range dead {
		o.End(fmt.Sprintf("process %d killed by its timer", o.pid))
	}
	for _, o := range mine {
		o.proceed()
	}
	w.judge()
	if h.wdmd != nil {
		h.wdmd.proceed()
	}
	h.sanlock.proceed()
}

// holdsLocked are the processes of the host that hold something. World.mu is held.
func (h *Host) holdsLocked() []*Hold {
	var mine []*Hold
	for _, o := range h.world.holds {
		if o.host == h && o.until == 0 {
			mine = append(mine, o)
		}
	}
	return mine
}
