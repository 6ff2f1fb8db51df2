package sim

import (
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/tenurelock/tenure/daemon/sanlockd"
	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
)

// Manner is how a process takes signals.
type Manner uint8

// The manners of processes.
const (
	Polite   Manner = iota // ends at SIGTERM
	Stubborn               // ends at SIGKILL only
	Stuck                  // sits in the kernel and does not end
)

// String names a manner.
func (m Manner) String() string { return [...]string{"polite", "stubborn", "stuck"}[m] }

// Hold is a process and the lease that it holds. It ends with the process, or with its host.
type Hold struct {
	*process
	host    *Host
	sanlock *leaseDaemon // the daemon that it has asked
	manner  Manner
	pid     int
	space   int
	lease   int
	line    *line // to the daemon

	// Guarded by World.mu.
	from, until time.Duration // until 0: it still holds
	writes      bool          // it is judged by its writes
	written     int

	told sync.Mutex
	seen map[syscall.Signal]bool // guarded by told
}

// PID implements sanlockd.Process.
func (h *Hold) PID() int { return h.pid }

// Close implements sanlockd.Process.
func (h *Hold) Close() error { return nil }

// Signal implements sanlockd.Process.
func (h *Hold) Signal(sig syscall.Signal) error {
	if err := h.sanlock.wait(); err != nil {
		return err
	}
	h.told.Lock()
	first := !h.seen[sig]
	h.seen[sig] = true
	h.told.Unlock()
	if first {
		h.host.world.note(h.host.name, "%v to %d", sig, h.pid)
	}
	if h.manner == Polite || h.manner == Stubborn && sig == syscall.SIGKILL {
		h.End(fmt.Sprintf("process %d ended", h.pid))
	}
	return nil
}

// End ends the process.
func (h *Hold) End(why string) {
	w := h.host.world
	w.mu.Lock()
	ended := h.until != 0
	if !ended {
		h.until = w.Now()
		w.noteLocked(h.host.name, why)
	}
	w.mu.Unlock()
	if !ended {
		h.kill()
	}
}

// Until returns when the process or its host ended, 0 if it holds the lease still.
func (h *Hold) Until() time.Duration {
	h.host.world.mu.Lock()
	defer h.host.world.mu.Unlock()
	return h.until
}

// granted books a grant and looks whether it could be given.
func (w *World) granted(h *Hold) {
	w.mu.Lock()
	h.from = w.Now()
	w.holds = append(w.holds, h)
	w.noteLocked(h.host.name, fmt.Sprintf("grant of %s:%s to %d", spaceName(h.space), leaseName(h.lease), h.pid))
	w.mu.Unlock()
	w.judge()
}

// judge looks for leases that two processes hold, each pair once. One on a machine that is frozen does no
// harm until it is thawed.
func (w *World) judge() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, a := range w.holds {
		for _, b := range w.holds[i+1:] {
			pair := [2]int{a.pid, b.pid}
			if w.judged[pair] || !a.acts() || !b.acts() || a.space != b.space || a.lease != b.lease {
				continue
			}
			w.judged[pair] = true
			w.breaches = append(w.breaches, fmt.Sprintf(
				"%.1f s: process %d of %s and process %d of %s hold %s:%s", w.Now().Seconds(), a.pid, a.host.name,
				b.pid, b.host.name, spaceName(a.space), leaseName(a.lease)))
		}
	}
}

// acts reports whether the process may use its lease now. World.mu is held.
func (h *Hold) acts() bool { return h.until == 0 && !h.host.frozen && !h.writes }

// Acquire starts a process that asks for a lease once, without waiting for a silent owner. The number is
// sanlock's; the Hold is nil unless it is 0.
func (h *Host) Acquire(space, lease int, manner Manner) (*Hold, int32, error) {
	w := h.world
	w.mu.Lock()
	w.pids++
	hold := &Hold{
		process: newProcess(), host: h, sanlock: h.sanlock, manner: manner, pid: w.pids, space: space, lease: lease,
		seen: map[syscall.Signal]bool{},
	}
	w.mu.Unlock()
	var err error
	if hold.line, err = h.dial(hold.process, hold); err != nil {
		return nil, 0, err
	}
	if err := hold.line.send(sanlockwire.CmdRegister, 0, 0, nil); err != nil {
		return nil, 0, err
	}
	r := sanlockwire.Resource{
		Space: leases.NameOf(spaceName(space)), Name: leases.NameOf(leaseName(lease)),
		Disks: []sanlockwire.Disk{{Path: DiskPath, Offset: uint64(areaOf(space, lease))}},
	}
	body := sanlockwire.Options{}.Append(r.AppendWithDisks(nil))
	result, err := hold.line.ask(sanlockwire.CmdAcquire, sanlockwire.AcquireOwnerNoWait, 1, body)
	if err != nil || result != 0 {
		hold.kill()
		return nil, result, err
	}
	w.granted(hold)
	return hold, 0, nil
}

func (h *Host) dial(from *process, who sanlockd.Process) (*line, error) {
	c, err := h.sanlock.ear.call(from, who)
	return &line{c}, err
}

// Insist asks for a lease once in each pause until it is granted, or for the given time.
func (h *Host) Insist(space, lease int, manner Manner, pause, limit time.Duration) (*Hold, error) {
	for end := h.world.Now() + limit; h.world.Now() < end; time.Sleep(pause) {
		hold, _, err := h.Acquire(space, lease, manner)
		if hold != nil || err != nil {
			return hold, err
		}
	}
	return nil, fmt.Errorf("%s was not granted %s:%s within %v",
		h.name, spaceName(space), leaseName(lease), limit)
}
