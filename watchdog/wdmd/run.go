package wdmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"os/user"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"github.com/tenurelock/tenure/leases/monotime"
	"github.com/tenurelock/tenure/watchdog"
)

// Defaults of the program.
const (
	DefaultScripts = "/etc/wdmd.d"
	DefaultGroup   = "sanlock"
)

// What the garbage collector may let grow: the daemon's memory is locked.
const (
	gcPercent   = 50
	memoryLimit = 32 << 20
)

// realTimePriority is the highest of SCHED_RR.
const realTimePriority = 99

// Program is the daemon as a program.
type Program struct {
	Place   Place
	Source  watchdog.Source
	Group   string // of the socket
	High    bool   // lock the memory and run before others
	Scripts string // directory; "" for none
	Kill    time.Duration
	Log     zerolog.Logger
}

// Run serves until a signal ends it, with the device stopped then. An error means that nothing was served.
func (p *Program) Run() error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	// A reader of our stderr that goes away must not end the daemon.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	debug.SetGCPercent(gcPercent)
	debug.SetMemoryLimit(memoryLimit)
	unix.Umask(0o022)
	place, err := p.Place.Take()
	if err != nil {
		return err
	}
	if err := p.serve(place, signals); err != nil {
		return errors.Join(err, place.Release())
	}
	return place.Release()
}

// serve does everything that needs the place.
func (p *Program) serve(place *Held, signals <-chan os.Signal) error {
	clock := monotime.System()
	cfg := Config{Source: p.Source, GID: p.gid(), High: p.High, Clock: &clock, Log: p.Log}
	if p.Scripts != "" {
		cfg.Scripts = NewScripts(p.Scripts, p.Kill, clock, p.Log)
	}
	p.Log.Error().Msgf("wdmd started S%d H%d G%d", bit(p.Scripts != ""), bit(p.High), cfg.GID)
	if p.High {
		p.raise()
	}
	l, err := place.Listen(cfg.GID)
	if err != nil {
		return err
	}
	s, err := New(cfg)
	if err != nil {
		l.Close()
		return err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Serve(context.Background(), l)
	}()
	for {
		select {
		case sig := <-signals:
			if sig == syscall.SIGHUP {
				s.Rescan()
			} else {
				s.Stop()
			}
		case <-done:
			return nil
		}
	}
}

// gid finds the group of the socket; one that does not exist is that of root, so that fewer may connect.
func (p *Program) gid() int {
	g, err := user.LookupGroup(p.Group)
	if err == nil {
		if n, err := strconv.Atoi(g.Gid); err == nil {
			return n
		}
	}
	p.Log.Error().Msgf("group '%s' not found, using socket gid: 0", p.Group)
	return 0
}

// raise locks the memory, and puts all threads before those of ordinary programs. What cannot be had is done
// without: the device resets a host whose daemon is late.
func (p *Program) raise() {
	if err := lockMemory(); err != nil {
		p.Log.Error().Err(err).Msg("mlockall failed")
	}
	if err := realTime(); err != nil {
		p.Log.Error().Err(err).Msg("could not set RR priority")
	}
}

// lockMemory keeps all pages in memory once they were used; address space that Go only reserves costs nothing.
func lockMemory() error {
	// Under a limit, memory that is needed later could not be had at all.
	unlimited := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unlimited); err != nil {
		return fmt.Errorf("setrlimit: %w", err)
	}
	return unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT)
}

// realTime gives every thread of this process the highest priority; threads that come later inherit it.
func realTime() error {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, t := range tasks {
		tid, err := strconv.Atoi(t.Name())
		if err != nil {
			return err
		}
		attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_RR, Priority: realTimePriority}
		if err := unix.SchedSetAttr(tid, &attr, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("sched_setattr: %w", err)
		}
	}
	return nil
}

// Probe returns the first device that can be used, and what was wrong with those before it.
func (p *Program) Probe() (string, []error, error) {
	if p.Place.inUse() {
		return "", nil, errInUse
	}
	path, faults := usable(p.Source)
	if path == "" {
		return "", faults, ErrNoDevice
	}
	return path, faults, nil
}

var errInUse = errors.New("cannot probe watchdog devices while wdmd is in use")
