package sanlockd

import (
	"context"
	"fmt"
	"log/syslog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"syscall"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"github.com/tenurelock/tenure/daemon/helper"
	"github.com/tenurelock/tenure/daemon/place"
	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/monotime"
	"github.com/tenurelock/tenure/leases/timeouts"
	"github.com/tenurelock/tenure/lockspace"
	wdmd "github.com/tenurelock/tenure/watchdog/client"
)

// Places and environment (spec sanlock-daemon 1.1).
const (
	DefaultRunDir = "/run/sanlock"
	RunDirEnv     = "SANLOCK_RUN_DIR"
	PrivilegedEnv = "SANLOCK_PRIVILEGED"
	LogFile       = "/var/log/sanlock.log"
	socketName    = "sanlock.sock"
	detachedEnv   = "TENURE_DETACHED" // set in the program that place.Detach started
	lockName      = "sanlock.pid"
	// DemoFireEnv shortens the watchdog's fire time, for demonstrations on hosts that are processes of one
	// machine. It is not looked at while a watchdog is in use.
	DemoFireEnv = "TENURE_DEMO_FIRE_SECONDS"
)

// What the garbage collector may let grow: the daemon's memory is locked, and a host has better uses for it.
const (
	gcPercent   = 50
	memoryLimit = 80 << 20
)

// Run is the daemon as a program: it detaches unless Foreground, takes the lock file, and serves until it is
// told to end. It returns the exit code. What the environment says is taken from there: the run directory, if
// the configuration names none, and whether the daemon is privileged.
func Run(cfg Config) int {
	if !cfg.Foreground && os.Getenv(detachedEnv) == "" {
		if err := place.Detach(detachedEnv); err != nil {
			fmt.Fprintln(os.Stderr, "detach:", err)
			return 1
		}
		return 0
	}
	debug.SetGCPercent(gcPercent)
	debug.SetMemoryLimit(memoryLimit)
	unix.Umask(0o002)
	fromEnvironment(&cfg)
	if cfg.Watchdog == nil {
		cfg.Watchdog = throughWdmd
	}
	j := openJournal(&cfg)
	defer j.Close()
	cfg.Log = zerolog.New(j).Level(zerolog.DebugLevel)
	cfg.Dump = j.dump
	if err := runWith(cfg); err != nil {
		cfg.Log.Error().Msg(err.Error())
		return 1
	}
	return 0
}

// throughWdmd connects a lockspace to the watchdog daemon of this host. The daemon opens its device now and is told
// who we are, and until when we live, once the host id is ours (spec sanlock-daemon 2.13).
func throughWdmd(space string, host leases.HostID) (lockspace.Link, error) {
	link, err := wdmd.Dial(context.Background(), wdmd.Config{Name: fmt.Sprintf("sanlock_%s:%d", space, host)})
	if err != nil {
		return nil, err
	}
	return link, nil
}

// fromEnvironment completes the configuration.
func fromEnvironment(cfg *Config) {
	if cfg.RunDir == "" {
		if cfg.RunDir = os.Getenv(RunDirEnv); cfg.RunDir == "" {
			cfg.RunDir = DefaultRunDir
		}
	}
	if value, set := os.LookupEnv(PrivilegedEnv); set && value != "1" {
		cfg.Unprivileged = true
	}
}

// openJournal opens the destinations of the log. One that cannot be had is done without, as in stock.
func openJournal(cfg *Config) *journal {
	var sinks []sink
	if cfg.LogFilePriority >= 0 {
		if f, err := os.OpenFile(LogFile, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644); err == nil {
			sinks = append(sinks, sink{cfg.LogFilePriority, func(_ int, line []byte) error {
				_, err := f.Write(line)
				return err
			}})
		}
	}
	if cfg.SyslogPriority >= 0 {
		if w, err := syslog.New(syslog.LOG_DAEMON, "sanlock"); err == nil {
			sinks = append(sinks, sink{cfg.SyslogPriority, func(level int, line []byte) error {
				return toSyslog(w, level, string(line))
			}})
		}
	}
	if cfg.Foreground {
		sinks = append(sinks, sink{levelDebug, func(_ int, line []byte) error {
			_, err := os.Stderr.Write(line)
			return err
		}})
	}
	return newJournal(monotime.System(), cfg.LogFileUTC != 0, sinks...)
}

func toSyslog(w *syslog.Writer, level int, line string) error {
	switch {
	case level <= levelError:
		return w.Err(line)
	case level == levelWarning:
		return w.Warning(line)
	case level == levelInfo:
		return w.Info(line)
	}
	return w.Debug(line)
}

// runWith does everything after the log is open. An error is the last line of the log.
func runWith(cfg Config) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	// A reader of our stderr that goes away must not end the daemon; children are not to inherit that.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	if cfg.RunDir != DefaultRunDir {
		cfg.Log.Warn().Msgf("Using non-standard run directory '%s'", cfg.RunDir)
	}
	if cfg.Unprivileged {
		cfg.Log.Warn().Msg("Running in unprivileged mode")
	} else {
		raiseLimits(cfg.Log)
	}
	if err := applyDemoFire(&cfg); err != nil {
		return err
	}
	cfg.UID, cfg.GID = owners(&cfg)
	if err := makeRunDir(&cfg); err != nil {
		return err
	}
	lock, err := place.Lock(filepath.Join(cfg.RunDir, lockName))
	if err != nil {
		return err
	}
	defer lock.Close()
	node := nodeName()
	if cfg.OurHostName == "" {
		if cfg.OurHostName, err = newHostName(node); err != nil {
			return err
		}
	}
	raisePriority(&cfg)
	if h := startHelper(&cfg); h != nil {
		defer h.Close()
	}
	s, err := New(cfg)
	if err != nil {
		return err
	}
	s.announce(node)
	lockMemory(&cfg)
	l, err := listen(&cfg)
	if err != nil {
		return err
	}
	return s.serveUntil(l, signals)
}

// startHelper starts the process that stops the users of leases. Without it the daemon does that itself.
func startHelper(cfg *Config) *helper.Helper {
	h, err := helper.Start(cfg.Log, monotime.System())
	if err != nil {
		cfg.Log.Error().Err(err).Msg("going on without a helper; signals and programs come from the daemon itself")
		return nil
	}
	cfg.Helper = h
	return h
}

// announce logs the start, as stock does.
func (s *Server) announce(node string) {
	text := fmt.Sprintf("sanlock daemon started %s host %s (%s)", version, s.cfg.OurHostName, node)
	if s.cfg.IOTimeout != timeouts.DefaultIO || s.cfg.WatchdogFireTimeout != timeouts.DefaultFire {
		text += fmt.Sprintf(" io_timeout %d watchdog_fire_timeout %d", s.cfg.IOTimeout, s.cfg.WatchdogFireTimeout)
	}
	s.log.Warn().Msg(text)
}

// serveUntil serves until a shutdown. A signal asks for one, and is ignored while there are lockspaces.
func (s *Server) serveUntil(l net.Listener, signals <-chan os.Signal) error {
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(context.Background(), l) }()
	for {
		select {
		case <-signals:
			s.Shutdown(false)
		case err := <-ended:
			return err
		}
	}
}

// applyDemoFire takes a shorter fire time for a demonstration, and warns of any that is not 60.
func applyDemoFire(cfg *Config) error {
	if text := os.Getenv(DemoFireEnv); text != "" && cfg.UseWatchdog == 0 {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return fmt.Errorf("%s=%s: must be a number of seconds", DemoFireEnv, text)
		}
		cfg.WatchdogFireTimeout = n
	}
	if cfg.UseWatchdog == 0 && cfg.WatchdogFireTimeout != timeouts.DefaultFire {
		cfg.Log.Warn().Msgf("watchdog_fire_timeout %d: other hosts may be alive and writing for %d seconds after "+
			"they lost their leases; this host must not share a device with hosts that do not use the same number",
			cfg.WatchdogFireTimeout, timeouts.DefaultFire)
	}
	return nil
}

// listen makes the socket and gives it its owner.
func listen(cfg *Config) (net.Listener, error) {
	path := filepath.Join(cfg.RunDir, socketName)
	l, err := place.Listen(path, 0o660)
	if err != nil {
		return nil, err
	}
	giveTo(cfg, path, cfg.UID, cfg.GID)
	return l, nil
}
