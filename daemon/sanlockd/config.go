package sanlockd

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"syscall"

	"github.com/rs/zerolog"

	"github.com/tenurelock/tenure/daemon/config"
	"github.com/tenurelock/tenure/daemon/helper"
	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device"
	"github.com/tenurelock/tenure/leases/monotime"
	"github.com/tenurelock/tenure/leases/ondisk"
	"github.com/tenurelock/tenure/leases/timeouts"
	"github.com/tenurelock/tenure/lockspace"
)

// Limits. What goes beyond is refused.
const (
	maxClients      = 8192    // connections at a time; stock serves 1022
	maxSpaces       = 4096    // lockspaces, those being added and removed included
	maxKills        = 100     // attempts to stop one client
	maxStatusAtOnce = 2       // answers to STATUS that are put together at a time
	maxDropLogs     = 16      // dropped headers that are logged, per connection
	maxListReply    = 1 << 20 // bytes of a GET_LOCKSPACES answer
)

// Opener opens the devices that leases lie on. device.Opener is one.
type Opener interface {
	Open(path string) (device.Device, error)
}

// Process is the process at the other end of a connection. Signal must never reach another process that has
// got the same number meanwhile.
type Process interface {
	PID() int
	Signal(sig syscall.Signal) error
	Close() error
}

// Helper stops the users of leases and runs their programs, so that it does not matter what this process
// waits for. helper.Helper is one. Its methods must not block.
type Helper interface {
	Signal(p helper.Process, sig syscall.Signal)
	Run(path string, args []string)
	Status() helper.Status
}

// Config says how the daemon behaves. What is nil or zero below the embedded part means the real thing.
type Config struct {
	config.Config // start from config.Defaults or config.Load

	RunDir       string // socket and lock file
	Foreground   bool   // -D: Run does not detach and logs everything to stderr
	Unprivileged bool   // Run changes no limits and no user
	UID, GID     int    // as status shows them; Run finds them out

	// AllowUnknownFlags goes on although records carry flags of a newer sanlock.
	AllowUnknownFlags bool
	// Watchdog connects a lockspace to the watchdog daemon. Without it no lockspace can be joined while
	// UseWatchdog is set.
	Watchdog func(space string, host leases.HostID) (lockspace.Link, error)

	Clock  *monotime.Clock
	Log    zerolog.Logger
	Dump   func() []byte                          // the log as LOG_DUMP gives it
	Opener Opener                                 // of the devices
	Peer   func(net.Conn) (Process, error)        // who is at the other end
	FD     func(net.Conn) int                     // the descriptor that status shows
	Start  func(path string, args []string) error // runs a killpath program to its end, without a Helper
	Helper Helper                                 // nil: signals and programs come from this process
	Random func() float64                         // [0,1), back-off of ballots
}

// adapt fills in what was left out and adapts what depends on other settings.
func (c *Config) adapt() {
	if !c.KillGraceSet {
		// The grace must end well before other hosts' judgement (spec sanlock-daemon 0).
		switch {
		case c.WatchdogFireTimeout < 30:
			c.KillGrace = 0
		case c.WatchdogFireTimeout < timeouts.DefaultFire:
			c.KillGrace = 15
		}
	}
	if c.Clock == nil {
		system := monotime.System()
		c.Clock = &system
	}
	if c.Opener == nil {
		c.Opener = device.NewOpener(device.Options{})
	}
	if c.Peer == nil {
		c.Peer = peerOf
	}
	if c.FD == nil {
		c.FD = descriptor
	}
	if c.Start == nil {
		c.Start = startProgram
	}
	if c.Random == nil {
		c.Random = rand.Float64
	}
}

// Validate reports everything that is wrong at once.
func (c *Config) Validate() error {
	var all []error
	complain := func(bad bool, format string, args ...any) {
		if bad {
			all = append(all, fmt.Errorf(format, args...))
		}
	}
	complain(!leases.Fits(c.OurHostName), "our_host_name %q must have 1 to 47 bytes", c.OurHostName)
	complain(c.IOTimeout < 1 || c.IOTimeout > timeouts.MaxIO,
		"io_timeout %d must be 1 to %d seconds", c.IOTimeout, timeouts.MaxIO)
	complain(c.BitmapSeconds < 0, "set_bitmap_seconds %d must not be negative", c.BitmapSeconds)
	complain(c.WatchdogFireTimeout < 1, "watchdog_fire_timeout %d must be at least 1", c.WatchdogFireTimeout)
	complain(c.UseWatchdog != 0 && c.WatchdogFireTimeout != timeouts.DefaultFire,
		"watchdog_fire_timeout %d: with a watchdog only %d is supported",
		c.WatchdogFireTimeout, timeouts.DefaultFire)
	return errors.Join(all...)
}

// set are the intervals of an io_timeout in seconds.
func (c *Config) set(ioTimeout uint32) timeouts.Set {
	return timeouts.Set{IO: ioTimeout, Fire: uint32(c.WatchdogFireTimeout)}
}

// own are the intervals of the default io_timeout.
func (c *Config) own() timeouts.Set { return c.set(uint32(c.IOTimeout)) }

// defaultGeometry is what a command without size flags means on a device.
func defaultGeometry(dev device.Device) ondisk.Geometry {
	return ondisk.DefaultGeometry(dev.Geometry().SectorSize)
}
