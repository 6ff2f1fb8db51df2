package lvmlockd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/syslog"
	"net"
	"os"
	"os/signal"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"github.com/tenurelock/tenure/daemon/lvmlock"
	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// Where stock has its files, compiled in.
const (
	DefaultPIDFile   = "/run/lvmlockd.pid"
	DefaultSocket    = "/run/lvm/lvmlockd.socket"
	DefaultAdoptFile = "/run/lvm/lvmlockd.adopt"
)

// Exit codes of Run.
const (
	exitOK      = 0
	exitFailure = 1
	exitRunning = 13 // another daemon runs
)

// stopWait bounds how long a SIGTERM waits for idle lockspaces to be left.
const stopWait = time.Minute

// sysfs is where the devices of LVs are looked for.
const sysfs = "/sys"

// Config is a daemon. The zero value of a path means the default.
type Config struct {
	PIDFile, Socket, AdoptFile string
	// Managers makes the lock managers; what they log goes to the daemon's log.
	Managers func(zerolog.Logger) ([]lvmlock.LockManager, error)
	GL       lvmwire.LockType // of the global lock, NoType: of the first request that names one
	HostID   uint64           // for VGs that are started without one, 0: none
	Dialect  lvmwire.Dialect
	Test     bool // no lock manager is asked
	Adopt    bool // take over what an earlier daemon held
	Debug    bool // the log goes to Stderr too
	Stderr   io.Writer
	LogLevel zerolog.Level // from which syslog gets lines
	// Ready, if any, is called when clients can connect.
	Ready func()
}

// daemon is a Config that runs.
type daemon struct {
	Config
	log     zerolog.Logger
	engine  *lvmlock.Engine
	busy    sync.WaitGroup // of the goroutines that stop with ctx
	mu      sync.Mutex
	adopted bool // the adopt file was written, or what it told of taken over: at a clean exit it is removed
}

// Run runs the daemon until a client quits or a SIGTERM finds nothing locked, and returns the exit code.
func Run(c Config) int {
	c.PIDFile = orDefault(c.PIDFile, DefaultPIDFile)
	c.Socket = orDefault(c.Socket, DefaultSocket)
	c.AdoptFile = orDefault(c.AdoptFile, DefaultAdoptFile)
	if c.Stderr == nil {
		c.Stderr = io.Discard
	}
	size := logSize
	if c.Dialect == lvmwire.Dialect16 {
		size = logSize16
	}
	var debug io.Writer
	if c.Debug {
		debug = c.Stderr
	}
	// Without a syslog there is nowhere to complain.
	to, _ := syslog.New(syslog.LOG_DAEMON|syslog.LOG_WARNING, "lvmlockd")
	j := newJournal(size, debug, to, c.LogLevel)
	defer j.Close()
	d := &daemon{Config: c, log: j.logger()}
	err := d.run(j)
	switch {
	case err == nil:
		return exitOK
	case !c.Debug:
		fmt.Fprintln(c.Stderr, "lvmlockd:", err)
	}
	d.log.Error().Msg(err.Error())
	if errors.Is(err, ErrRunning) {
		return exitRunning
	}
	return exitFailure
}

func orDefault(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func (d *daemon) run(j *journal) error {
	lock, err := takePIDFile(d.PIDFile)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := d.listen(j); err != nil {
		return errors.Join(err, os.Remove(d.PIDFile))
	}
	d.clean()
	return nil
}

// listen serves until the daemon is to end.
func (d *daemon) listen(j *journal) error {
	l, made, err := listen(d.Socket)
	if err != nil {
		return err
	}
	defer l.Close()
	managers, err := d.Managers(d.log)
	if err != nil {
		return fmt.Errorf("lock managers: %w", err)
	}
	d.engine, err = lvmlock.New(lvmlock.Config{
		Managers: managers, Log: d.log, GL: d.GL, HostID: d.HostID, Dialect: d.Dialect, Test: d.Test, Adopt: d.Adopt,
		Active: func(context.Context) ([]string, error) { return lvmlock.ActiveUUIDs(sysfs) },
	})
	if err != nil {
		return err
	}
	defer d.engine.Close()
	d.log.Info().Msg("lvmlockd started")
	s := NewServer(ServerConfig{Engine: d.engine, Dialect: d.Dialect, Log: d.log, LogText: j.text})
	if err := d.serve(s, l); err != nil {
		return err
	}
	if made {
		// Closing the listener removed it.
		d.log.Debug().Msgf("removed %s", d.Socket)
	}
	return nil
}

// serve lets the Server run until it ends by itself or SIGTERM ends it.
func (d *daemon) serve(s *Server, l *net.UnixListener) error {
	ctx, stop := context.WithCancel(context.Background())
	defer d.busy.Wait()
	defer stop()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGTERM)
	defer signal.Stop(signals)
	// A reader of our stderr that went away is no reason to end. A channel, unlike Ignore, is not inherited.
	signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE)
	d.busy.Go(func() { d.heed(ctx, signals, stop) })
	d.busy.Go(func() { d.keepAdopt(ctx) })
	if err := notify("READY=1"); err != nil {
		d.log.Warn().Msg(err.Error())
	}
	if d.Ready != nil {
		d.Ready()
	}
	return s.Serve(ctx, l)
}

// heed ends the daemon at SIGTERM, unless locks are held: somebody uses what they protect.
func (d *daemon) heed(ctx context.Context, signals <-chan os.Signal, stop context.CancelFunc) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-signals:
		}
		wait, cancel := context.WithTimeout(ctx, stopWait)
		n := d.engine.Shutdown(wait)
		cancel()
		if n == 0 {
			d.log.Info().Msg("shutdown")
			stop()
			return
		}
		d.log.Warn().Msgf("ignore shutdown for %d lockspaces", n)
	}
}

// keepAdopt takes over what an earlier daemon left, then keeps the file for the next one.
func (d *daemon) keepAdopt(ctx context.Context) {
	if !d.Adopt {
		return
	}
	text, err := readAdopt(d.AdoptFile)
	if err != nil {
		d.log.Error().Msg(err.Error())
	}
	// What could not be taken over was logged; what was is kept.
	if err := d.engine.Adopt(ctx, text); err == nil && text != nil {
		d.remember()
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.engine.Changed():
		}
		if err := writeAdopt(d.AdoptFile, d.engine.AdoptText()); err != nil {
			d.log.Error().Msg(err.Error() + "; if lvmlockd dies its LV locks cannot be adopted")
			continue
		}
		d.remember()
	}
}

func (d *daemon) remember() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.adopted = true
}

// clean removes what tells of the daemon. After it nothing is locked.
func (d *daemon) clean() {
	d.mu.Lock()
	adopted := d.adopted
	d.mu.Unlock()
	var errs []error
	if adopted {
		errs = append(errs, os.Remove(d.AdoptFile))
	}
	errs = append(errs, os.Remove(d.PIDFile))
	if err := errors.Join(errs...); err != nil && !errors.Is(err, os.ErrNotExist) {
		d.log.Warn().Msg(err.Error())
	}
}
