package lvmlockd

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/rs/zerolog"

	"github.com/tenurelock/tenure/daemon/lvmlockd"
	"github.com/tenurelock/tenure/daemon/lvmwire"
	"github.com/tenurelock/tenure/tools/getopt"
)

// known are the options, in the order in which complaints list them.
var known = []getopt.Option{
	{Letter: 'h', Name: "help"},
	{Letter: 'V', Name: "version"},
	{Letter: 'T', Name: "test"},
	{Letter: 'f', Name: "foreground"},
	{Letter: 'D', Name: "daemon-debug"},
	{Letter: 'p', Name: "pid-file", Valued: true},
	{Letter: 's', Name: "socket-path", Valued: true},
	{Name: "adopt-file", Valued: true},
	{Letter: 'g', Name: "gl-type", Valued: true},
	{Letter: 'i', Name: "host-id", Valued: true},
	{Letter: 'F', Name: "host-id-file", Valued: true},
	{Letter: 'o', Name: "sanlock-timeout", Valued: true},
	{Letter: 'A', Name: "adopt", Valued: true},
	{Letter: 'S', Name: "syslog-priority", Valued: true},
	{Name: "dialect", Valued: true},
}

// Options are those of one command line.
type Options struct {
	lvmlockd.Config
	Foreground bool
	IOTimeout  int // seconds, of sanlock lockspaces, 0: sanlock's own
}

// errUsage says that the usage is to be printed, after a complaint or without one.
var errUsage = errors.New("usage")

// action is what a command line asks for instead of a daemon.
type action int

const (
	serve action = iota
	showUsage
	showVersion
)

// parse reads a command line. Help and version are done when they are met; what follows does not count.
func parse(args []string, stderr io.Writer) (o Options, a action, err error) {
	o.Adopt = true
	o.LogLevel = zerolog.WarnLevel
	o.Dialect = lvmwire.Dialect40
	o.PIDFile = os.Getenv("LVM_LVMLOCKD_PIDFILE")
	o.Socket = os.Getenv("LVM_LVMLOCKD_SOCKET")
	for f, err := range getopt.All(args, known) {
		if err != nil {
			fmt.Fprintln(stderr, err)
			return o, serve, errUsage
		}
		switch f.Option.Name {
		case "help":
			return o, showUsage, nil
		case "version":
			return o, showVersion, nil
		}
		if err := o.set(f.Option.Name, f.Value); err != nil {
			return o, serve, err
		}
	}
	return o, serve, nil
}

// set stores an option. A value that is no number is 0, as in stock.
func (o *Options) set(name, value string) error {
	number, _ := strconv.ParseUint(value, 10, 31)
	switch name {
	case "test":
		o.Test = true
	case "foreground":
		o.Foreground = true
	case "daemon-debug":
		o.Foreground, o.Debug = true, true
	case "pid-file":
		o.PIDFile = value
	case "socket-path":
		o.Socket = value
	case "adopt-file":
		o.AdoptFile = value
	case "host-id":
		o.HostID = number
	case "host-id-file":
		return o.readHostID(value)
	case "sanlock-timeout":
		o.IOTimeout = int(number)
	case "adopt":
		o.Adopt = number != 0
	case "gl-type":
		o.GL = lvmwire.ParseLockType(value)
		if o.GL != lvmwire.DLM && o.GL != lvmwire.Sanlock {
			return errors.New("invalid gl-type option")
		}
	case "syslog-priority":
		if l, ok := priorities[value]; ok {
			o.LogLevel = l
		}
	case "dialect":
		if value != "16" && value != "40" {
			return fmt.Errorf("invalid dialect %q: give 16 or 40", value)
		}
		o.Dialect = lvmwire.Dialect(number)
	}
	return nil
}

// priorities are the names of levels; others change nothing.
var priorities = map[string]zerolog.Level{
	"err": zerolog.ErrorLevel, "warning": zerolog.WarnLevel, "debug": zerolog.DebugLevel,
}

// readHostID takes the host id from a file of lines "key=value". A file that cannot be used is an error: without its
// host id no VG could be started, and nobody would know why.
func (o *Options) readHostID(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("host id: %w", err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		key, value, _ := strings.Cut(lines.Text(), "=")
		if strings.TrimSpace(key) != "host_id" {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 31)
		if err != nil {
			return fmt.Errorf("host id: %s: %w", path, err)
		}
		o.HostID = n
		return nil
	}
	return fmt.Errorf("host id: %s has no line host_id=<num>", path)
}
