package sim

import (
	"context"
	"fmt"
	"net"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"github.com/tenurelock/tenure/daemon/config"
	"github.com/tenurelock/tenure/daemon/sanlockd"
	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device"
	"github.com/tenurelock/tenure/lockspace"
	"github.com/tenurelock/tenure/watchdog"
	"github.com/tenurelock/tenure/watchdog/client"
	"github.com/tenurelock/tenure/watchdog/memdog"
	"github.com/tenurelock/tenure/watchdog/wdmd"
)

// dogDaemon is the watchdog daemon of a host, from its start to its end.
type dogDaemon struct {
	*process
	server *wdmd.Server
	ear    *ear
	cancel context.CancelFunc
	ended  chan struct{}
}

func (h *Host) startDogDaemon() (*dogDaemon, error) {
	k := &dogDaemon{process: newProcess(), ended: make(chan struct{})}
	var err error
	clock := h.clockOf(k.process)
	k.server, err = wdmd.New(wdmd.Config{
		Source: leash{h.dog, k.process}, Clock: &clock, Log: zerolog.New(diary{h, k.process}),
		Peer: func(net.Conn) (pid, fd int) { return leasePID, 0 },
	})
	if err != nil {
		return nil, err
	}
	k.ear = listen(k.process)
	ctx, stop := context.WithCancel(context.Background())
	k.cancel = stop
	go func() {
		defer close(k.ended)
		k.server.Serve(ctx, k.ear)
	}()
	return k, nil
}

// die is SIGKILL. The kernel pets the device when it closes it.
func (k *dogDaemon) die(dog *memdog.Dog) {
	dog.Kill()
	k.kill()
	k.cancel()
}

// leash is the watchdog as a process can reach it.
type leash struct {
	dog *memdog.Dog
	p   *process
}

// Paths implements watchdog.Source.
func (l leash) Paths() []string { return l.dog.Paths() }

// Open implements watchdog.Source.
func (l leash) Open(path string) (watchdog.Device, error) {
	if err := l.p.wait(); err != nil {
		return nil, err
	}
	d, err := l.dog.Open(path)
	if err != nil {
		return nil, err
	}
	return leashed{d, l.p}, nil
}

// leashed is the open device.
type leashed struct {
	watchdog.Device
	p *process
}

// SetTimeout implements watchdog.Device.
func (l leashed) SetTimeout(fire time.Duration) (time.Duration, error) {
	if err := l.p.wait(); err != nil {
		return 0, err
	}
	return l.Device.SetTimeout(fire)
}

// Pet implements watchdog.Device.
func (l leashed) Pet() error { return l.with(l.Device.Pet) }

// Disarm implements watchdog.Device.
func (l leashed) Disarm() error { return l.with(l.Device.Disarm) }

// Abandon implements watchdog.Device.
func (l leashed) Abandon() error { return l.with(l.Device.Abandon) }

func (l leashed) with(do func() error) error {
	if err := l.p.wait(); err != nil {
		return err
	}
	return do()
}

// leasePID is the lease daemon's pid on every host.
const leasePID = 10

// leaseDaemon is the lease daemon of a host, from its start to its end.
type leaseDaemon struct {
	*process
	host   *Host
	server *sanlockd.Server
	ear    *ear
	cancel context.CancelFunc
	ended  chan struct{}
}

func (h *Host) startLeaseDaemon() (*leaseDaemon, error) {
	d := &leaseDaemon{process: newProcess(), host: h, ended: make(chan struct{})}
	cfg := sanlockd.Config{
		Config: config.Defaults(), Clock: &h.clock, Log: zerolog.New(diary{h, d.process}), Opener: d, Peer: peer,
		Random: func() float64 { return 0.5 }, Watchdog: d.link,
	}
	cfg.OurHostName, cfg.IOTimeout, cfg.UseWatchdog = h.name, h.io, 1
	if h.bare {
		cfg.UseWatchdog = 0
	}
	var err error
	if d.server, err = sanlockd.New(cfg); err != nil {
		return nil, err
	}
	d.ear = listen(d.process)
	ctx, stop := context.WithCancel(context.Background())
	d.cancel = stop
	go func() {
		defer close(d.ended)
		if err := d.server.Serve(ctx, d.ear); err != nil {
			h.world.note(h.name, "daemon: %v", err)
		}
	}()
	return d, nil
}

// Open implements sanlockd.Opener.
func (d *leaseDaemon) Open(path string) (device.Device, error) {
	if path != DiskPath {
		return nil, &device.OpError{Op: "open", Device: path, Err: syscall.ENOENT}
	}
	return d.host.cable.open(d.process), nil
}

// link connects a lockspace to the watchdog daemon of this host. Only the way there is ours.
func (d *leaseDaemon) link(space string, host leases.HostID) (lockspace.Link, error) {
	l, err := client.Dial(context.Background(), client.Config{
		Name: fmt.Sprintf("sanlock_%s:%d", space, host), Clock: &d.host.clock,
		Dial: func(context.Context) (net.Conn, error) {
			return d.host.wdmd.ear.call(d.process, nil)
		},
		Send: func(c net.Conn, p []byte) error {
			_, err := c.Write(p)
			return err
		},
	})
	if err != nil {
		return nil, err
	}
	return l, nil
}

// die is SIGKILL.
func (d *leaseDaemon) die() {
	d.kill()
	d.cancel()
}

// diary notes what a daemon logs as errors.
type diary struct {
	h *Host
	p *process
}

// Write implements io.Writer.
func (d diary) Write(p []byte) (int, error) { return len(p), nil }

// WriteLevel implements zerolog.LevelWriter.
func (d diary) WriteLevel(level zerolog.Level, p []byte) (int, error) {
	if level >= zerolog.ErrorLevel && d.p.runs() {
		d.h.world.note(d.h.name, "log %s", p[:max(0, len(p)-1)])
	}
	return len(p), nil
}
