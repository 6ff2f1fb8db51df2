package sim

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"github.com/tenurelock/tenure/daemon/config"
	"github.com/tenurelock/tenure/daemon/sanlockd"
	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device"
	"github.com/tenurelock/tenure/leases/monotime"
)

// Host is one machine from its boot to its end.
type Host struct {
	world *World
	name  string
	id    uint64

	cable  *cable
	ear    *ear
	server *sanlockd.Server
	stop   context.CancelFunc
	ended  chan struct{}

	mu   sync.Mutex
	mute bool // the lease daemon is stopped or dead: it signals nobody
	over bool // the machine is off
}

// Boot starts a machine with a host id of its own and its daemons.
func (w *World) Boot(name string, id uint64, ioTimeout int) (*Host, error) {
	h := &Host{world: w, name: name, id: id, cable: newCable(w.Disk), ear: newEar(), ended: make(chan struct{})}
	clock := monotime.At(monotime.Instant(1000*time.Second), nil)
	cfg := sanlockd.Config{
		Config: config.Defaults(), Clock: &clock, Log: zerolog.New(diary{h}), Opener: h, Peer: peer,
		Random: func() float64 { return 0.5 },
	}
	cfg.OurHostName, cfg.IOTimeout, cfg.UseWatchdog = name, ioTimeout, 0
	var err error
	if h.server, err = sanlockd.New(cfg); err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	h.stop = stop
	go func() {
		defer close(h.ended)
		if err := h.server.Serve(ctx, h.ear); err != nil {
			w.note(name, "daemon: %v", err)
		}
	}()
	w.mu.Lock()
	w.hosts = append(w.hosts, h)
	w.mu.Unlock()
	return h, nil
}

// Open implements sanlockd.Opener.
func (h *Host) Open(path string) (device.Device, error) {
	if path != DiskPath {
		return nil, &device.OpError{Op: "open", Device: path, Err: syscall.ENOENT}
	}
	return h.cable.open(), nil
}

// Join adds a lockspace.
func (h *Host) Join(space int) error { return h.membership(space, sanlockwire.CmdAddLockspace) }

// Leave removes a lockspace.
func (h *Host) Leave(space int) error { return h.membership(space, sanlockwire.CmdRemLockspace) }

func (h *Host) membership(space int, cmd uint32) error {
	c, err := h.dial(nil)
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

// FailDisk makes every transfer of the host end with an error.
func (h *Host) FailDisk() { h.disk(failing, "disk fails") }

// HangDisk makes every transfer of the host wait.
func (h *Host) HangDisk() { h.disk(hanging, "disk hangs") }

// HealDisk ends both. What waited is done then.
func (h *Host) HealDisk() { h.disk(working, "disk works") }

func (h *Host) disk(to condition, what string) {
	h.world.note(h.name, "%s", what)
	h.cable.set(to)
}

// CutPower ends the machine at once.
func (h *Host) CutPower() { h.off("power cut") }

// off ends everything on the machine: nothing of it reaches the disk from here on.
func (h *Host) off(why string) {
	h.cable.set(cut)
	h.mu.Lock()
	over := h.over
	h.over, h.mute = true, true
	h.mu.Unlock()
	if over {
		return
	}
	w := h.world
	w.mu.Lock()
	w.noteLocked(h.name, why)
	var mine []*Hold
	for _, o := range w.holds {
		if o.host == h && o.until == 0 {
			o.until = w.Now()
			mine = append(mine, o)
		}
	}
	w.mu.Unlock()
	for _, o := range mine {
		o.line.Close()
	}
}

func (h *Host) isMute() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mute
}

func (h *Host) close() {
	h.off("end")
	h.stop()
	<-h.ended
}

// diary notes what the daemon logs as errors.
type diary struct{ h *Host }

// Write implements io.Writer.
func (d diary) Write(p []byte) (int, error) { return len(p), nil }

// WriteLevel implements zerolog.LevelWriter.
func (d diary) WriteLevel(level zerolog.Level, p []byte) (int, error) {
	if level >= zerolog.ErrorLevel && !d.h.isMute() {
		d.h.world.note(d.h.name, "log %s", p[:max(0, len(p)-1)])
	}
	return len(p), nil
}
