package sim

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/monotime"
	"github.com/tenurelock/tenure/leases/ondisk"
	"github.com/tenurelock/tenure/watchdog/memdog"
)

// Host is one machine from its boot to its end.
type Host struct {
	world  *World
	name   string
	id     uint64
	io     int  // io_timeout, seconds
	bare   bool // there is no watchdog
	booted time.Duration
	clock  monotime.Clock
	cable  *cable
	dog    *memdog.Dog
	admin  *process // runs commands

	writers sync.WaitGroup

	// Changed by who drives the world only.
	wdmd    *dogDaemon
	sanlock *leaseDaemon

	// Guarded by World.mu.
	over     bool // the machine is off
	frozen   bool
	due      bool // the watchdog ran out while the machine was frozen
	sleepy   bool // the watchdog is the kernel's own timer, which freezes with it
	killers  []*killer
	renewals [Spaces][]Renewal
}

// Renewal is a renewal that has reached the disk.
type Renewal struct {
	At    time.Duration // when it got there, since the world's beginning
	Stamp time.Duration // what it says, as the time since the world's beginning; up to a second earlier
}

// sinceBoot is what a host's clock reads at its boot in the simulation. It is no full second, and hosts
// differ.
func sinceBoot(id uint64) time.Duration {
	return time.Duration(id)*1000*time.Second + time.Duration(id)*370*time.Millisecond
}

// Boot starts a machine with a host id of its own and its daemons.
func (w *World) Boot(name string, id uint64, ioTimeout int) (*Host, error) {
	return w.boot(&Host{name: name, id: id, io: ioTimeout})
}

// BootBare is Boot without a watchdog.
func (w *World) BootBare(name string, id uint64, ioTimeout int) (*Host, error) {
	return w.boot(&Host{name: name, id: id, io: ioTimeout, bare: true})
}

func (w *World) boot(h *Host) (*Host, error) {
	h.world, h.booted, h.dog, h.admin = w, w.Now(), memdog.New(), newProcess()
	h.clock = monotime.At(monotime.Instant(sinceBoot(h.id)), nil)
	h.cable = newCable(w.Disk, h.wrote)
	h.dog.OnReset(h.bark)
	w.mu.Lock()
	w.hosts = append(w.hosts, h)
	w.mu.Unlock()
	return h, h.StartDaemons()
}

// StartDaemons starts both daemons, which must not run.
func (h *Host) StartDaemons() error {
	var err error
	if !h.bare {
		if h.wdmd, err = h.startDogDaemon(); err != nil {
			return err
		}
	}
	h.sanlock, err = h.startLeaseDaemon()
	return err
}

// EndDaemons ends both daemons in an orderly way, the lease daemon first. It must have no lockspace.
func (h *Host) EndDaemons() error {
	if !h.sanlock.server.Shutdown(false) {
		return errors.New("the lease daemon does not want to end")
	}
	<-h.sanlock.ended
	if h.wdmd == nil {
		return nil
	}
	const patience = 2 * time.Second
	h.wdmd.server.Stop()
	select {
	case <-h.wdmd.ended:
		return nil
	case <-time.After(patience):
		return errors.New("the watchdog daemon does not want to end")
	}
}

// wrote notes the renewals among what has reached the disk.
func (h *Host) wrote(off int64, p []byte) {
	for space := range Spaces {
		at := areaOf(space, 0) + int64(h.id-1)*int64(sizes.Sector) - off
		if at < 0 || at >= int64(len(p)) {
			continue
		}
		l, err := ondisk.DecodeLeader(p[at:])
		if err != nil || l.Timestamp == 0 {
			continue
		}
		w := h.world
		w.mu.Lock()
		stamp := time.Duration(l.Timestamp)*time.Second - sinceBoot(h.id) + h.booted
		h.renewals[space] = append(h.renewals[space], Renewal{At: w.Now(), Stamp: stamp})
		w.mu.Unlock()
	}
}

// Renewals returns the renewals of a lockspace that have reached the disk, the join included.
func (h *Host) Renewals(space int) []Renewal {
	h.world.mu.Lock()
	defer h.world.mu.Unlock()
	return append([]Renewal(nil), h.renewals[space]...)
}

// Watchdog returns the machine's watchdog.
func (h *Host) Watchdog() *memdog.Dog { return h.dog }

// Join adds a lockspace.
func (h *Host) Join(space int) error { return h.membership(space, sanlockwire.CmdAddLockspace) }

// Leave removes a lockspace.
func (h *Host) Leave(space int) error { return h.membership(space, sanlockwire.CmdRemLockspace) }

func (h *Host) membership(space int, cmd uint32) error {
	c, err := h.dial(h.admin, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	l := sanlockwire.Lockspace{
		Name: leases.NameOf(spaceName(space)), HostID: h.id,
		Disk: sanlockwire.Disk{Path: DiskPath, Offset: uint64(areaOf(space, 0))},
	}
	result, err := c.ask(cmd, 0, 0, l.Append(nil))
	if err == nil && result != 0 {
		err = fmt.Errorf("%s: %s of host %d: %d", h.name, spaceName(space), h.id, result)
	}
	return err
}

// bark is the watchdog's reset.
func (h *Host) bark() {
	w := h.world
	w.mu.Lock()
	late := h.frozen && h.sleepy
	h.due = h.due || late
	w.mu.Unlock()
	if !late {
		h.off("reset")
	}
}

// off ends everything on the machine: nothing of it reaches the disk from here on.
func (h *Host) off(why string) {
	w := h.world
	w.mu.Lock()
	over := h.over
	h.over = true
	if !over {
		w.noteLocked(h.name, why)
	}
	var mine []*Hold
	for _, o := range w.holds {
		if o.host == h && o.until == 0 {
			o.until = w.Now()
			mine = append(mine, o)
		}
	}
	w.mu.Unlock()
	if over {
		return
	}
	for space := range Spaces {
		h.cable.set(space, cut)
	}
	if h.wdmd != nil {
		h.wdmd.die(h.dog)
	}
	h.sanlock.die()
	h.admin.kill()
	for _, o := range mine {
		o.process.kill()
	}
}

// close ends the machine and waits until nothing of it runs.
func (h *Host) close() {
	h.off("end")
	<-h.sanlock.ended
	if h.wdmd != nil {
		<-h.wdmd.ended
	}
	h.writers.Wait()
}

// IO returns the host's io_timeout in seconds.
func (h *Host) IO() int { return h.io }

// AwaitRenewal returns when the next renewal has reached the disk.
func (h *Host) AwaitRenewal(space int) {
	const step = 50 * time.Millisecond
	for n := len(h.Renewals(space)); len(h.Renewals(space)) == n; {
		time.Sleep(step)
	}
}
