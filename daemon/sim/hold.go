package sim

import (
	"fmt"
	"sync"
	"syscall"
	"time"

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
	host   *Host
	manner Manner
	pid    int
	space  int
	lease  int
	line   *line // to the daemon

	// Guarded by World.mu.
	from, until time.Duration // until 0: it still holds

	mu   sync.Mutex
	seen map[syscall.Signal]bool
}

// PID implements sanlockd.Process.
func (h *Hold) PID() int { return h.pid }

// Close implements sanlockd.Process.
func (h *Hold) Close() error { return nil }

// Signal implements sanlockd.Process.
func (h *Hold) Signal(sig syscall.Signal) error {
	if h.host.isMute() {
		return nil
	}
	h.mu.Lock()
	first := !h.seen[sig]
	h.seen[sig] = true
	h.mu.Unlock()
	if first {
		h.host.world.note(h.host.name, "%v to %d", sig, h.pid)
	}
	if h.manner == Polite || h.manner == Stubborn && sig == syscall.SIGKILL {
		h.End(fmt.Sprintf("process %d ended", h.pid))
	}
	return nil
}

// End ends the process: the kernel closes its connection.
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
		h.line.Close()
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
	defer w.mu.Unlock()
	h.from = w.Now()
	for _, o := range w.holds {
		if o.space == h.space && o.lease == h.lease && o.until == 0 {
			w.breaches = append(w.breaches, fmt.Sprintf("%.1f s: %s was granted %s:%s, which process %d of %s holds",
				h.from.Seconds(), h.host.name, spaceName(h.space), leaseName(h.lease), o.pid, o.host.name))
		}
	}
	w.holds = append(w.holds, h)
	w.noteLocked(h.host.name, fmt.Sprintf("grant of %s:%s to %d", spaceName(h.space), leaseName(h.lease), h.pid))
}

// Acquire starts a process that asks for a lease once, without waiting for a silent owner. The number is
// sanlock's; the Hold is nil unless it is 0.
func (h *Host) Acquire(space, lease int, manner Manner) (*Hold, int32, error) {
	w := h.world
	w.mu.Lock()
	w.pids++
	hold := &Hold{
		host: h, manner: manner, pid: w.pids, space: space, lease: lease, seen: map[syscall.Signal]bool{},
	}
	w.mu.Unlock()
	var err error
	if hold.line, err = h.dial(hold); err != nil {
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
		hold.line.Close()
		return nil, result, err
	}
	w.granted(hold)
	return hold, 0, nil
}

// Insist asks for a lease twice a second until it is granted, or for the given time.
func (h *Host) Insist(space, lease int, manner Manner, limit time.Duration) (*Hold, error) {
	const pause = 500 * time.Millisecond
	for end := h.world.Now() + limit; h.world.Now() < end; time.Sleep(pause) {
		hold, _, err := h.Acquire(space, lease, manner)
		if hold != nil || err != nil {
			return hold, err
		}
	}
	return nil, fmt.Errorf("%s was not granted %s:%s within %v", h.name, spaceName(space), leaseName(lease), limit)
}
