package config

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/tenurelock/tenure/daemon/sanlockwire"
)

// Path is where sanlock looks for its configuration.
const Path = "/etc/sanlock/sanlock.conf"

// ReadExtendIO as RenewalReadExtend means the io_timeout of each lockspace.
const ReadExtendIO = -1

// MaxSectors is max_sectors_kb: leave the device alone, set it to the align size, or set it to KB.
type MaxSectors struct {
	Ignore, Align bool
	KB            int // 0 with Ignore and Align
}

// Config is what sanlock.conf and the daemon's options can set. Numbers are as written, also where only 0
// and 1 make sense. Times are in seconds.
type Config struct {
	QuietFail    int // log refused acquires as debug only
	DebugRenew   int
	DebugClients int
	DebugCmds    uint64 // bit n: log command n

	UseAIO       int
	UseWatchdog  int
	HighPriority int
	MlockLevel   int // 0 none, 1 current, 2 current and future memory
	MaxWorkers   int // at least 2

	LogFilePriority  int // syslog level up to which the log file gets lines; -1 none
	LogFileUTC       int
	SyslogPriority   int // -1 none
	NamesLogPriority int // accepted, without effect

	IOTimeout           int  // of lockspaces that are added without one
	WatchdogFireTimeout int  // from the last pet of the watchdog to the reset
	KillGrace           int  // 0 to 60, between the loss of a lockspace and SIGKILL
	KillGraceSet        bool // it was written, not the default
	WriteInitIOTimeout  int  // of each transfer while a lease is formatted
	BitmapSeconds       int  // how long a request's bit stays set; 0 means 6 × io_timeout; option -b only

	SharedRetries     int
	RenewalReadExtend int // seconds; ReadExtendIO if not set
	RenewalHistory    int // renewals that are remembered; 0 none
	MaxSectors        MaxSectors

	User, Group string // names; "" is the system's default
	OurHostName string // at most 47 bytes; "" means a new unique one
	PaxosDebug  int
	DebugIO     string // "submit", "complete" or both are looked for
}

// Limits of the values (spec 2.16).
const (
	minWorkers    = 2
	maxKillGrace  = 60
	maxMaxSectors = 8192
)

// quietCmds are those that monitoring calls all the time; debug_cmd leaves them out unless told otherwise.
const quietCmds = 1<<sanlockwire.CmdInqLockspace | 1<<sanlockwire.CmdWriteResource |
	1<<sanlockwire.CmdReadLockspace | 1<<sanlockwire.CmdReadResource | 1<<sanlockwire.CmdGetLockspaces |
	1<<sanlockwire.CmdGetHosts | 1<<sanlockwire.CmdReadResourceOwners

// Defaults returns what holds without a file.
func Defaults() Config {
	return Config{
		QuietFail: 1, DebugCmds: ^uint64(quietCmds), UseAIO: 1, UseWatchdog: 1, MlockLevel: 1, MaxWorkers: 8,
		LogFilePriority: 4, SyslogPriority: 3, NamesLogPriority: 4, IOTimeout: 10, WatchdogFireTimeout: 60,
		KillGrace: 40, WriteInitIOTimeout: 60, SharedRetries: 8, RenewalReadExtend: ReadExtendIO,
		RenewalHistory: 180, MaxSectors: MaxSectors{KB: 1024},
	}
}

// Load returns the defaults changed by the file at path. A file that does not exist changes nothing; every
// other reason why it cannot be read is an error, with the defaults and what was read so far.
func Load(path string) (Config, error) {
	c := Defaults()
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, fmt.Errorf("configuration: %w", err)
	}
	defer f.Close()
	if err := c.Read(f); err != nil {
		return c, fmt.Errorf("configuration %s: %w", path, err)
	}
	return c, nil
}

// maxLine is the most bytes of a line that stock takes at a time; what is left is its next line.
const maxLine = 127

// Read changes c by the lines of r. The only errors are r's.
func (c *Config) Read(r io.Reader) error {
	in := bufio.NewReader(r)
	for {
		line, err := readLine(in)
		c.line(line)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// readLine reads to the end of the line, but no more than maxLine bytes.
func readLine(in *bufio.Reader) (string, error) {
	line := make([]byte, 0, maxLine)
	for len(line) < maxLine {
		b, err := in.ReadByte()
		if err != nil {
			return string(line), err
		}
		line = append(line, b)
		if b == '\n' {
			break
		}
	}
	return string(line), nil
}
