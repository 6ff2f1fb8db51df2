// Package wdmdcli is wdmd's own command line.
//
// Options, texts and exit codes are those of stock, which scripts read (spec sanlock-daemon 3.7).
package wdmdcli

import (
	_ "embed" // usage.txt
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tenurelock/tenure/daemon/place"
	"github.com/tenurelock/tenure/watchdog"
	"github.com/tenurelock/tenure/watchdog/chardev"
	"github.com/tenurelock/tenure/watchdog/wdmd"
	"github.com/tenurelock/tenure/watchdog/wdmdwire"
)

// version is what scripts compare.
const version = "3.8.5"

//go:embed usage.txt
var usage string

// dumpWait bounds the wait for the daemon's text.
const dumpWait = 10 * time.Second

// detachedEnv is set in the program that place.Detach started.
const detachedEnv = "TENURE_WDMD_DETACHED"

// Config says what the command line runs with. The zero value is the system's.
type Config struct {
	Place  wdmd.Place
	Source func(first string) watchdog.Source
}

// Main runs one command line, args[0] being the name of the program, and returns its exit code.
func Main(c Config, args []string, stdout, stderr io.Writer) int {
	if c.Place == (wdmd.Place{}) {
		c.Place = wdmd.DefaultPlace()
	}
	if c.Source == nil {
		c.Source = func(first string) watchdog.Source { return chardev.Source{First: first} }
	}
	o := parse(args, stderr)
	switch o.action {
	case showUsage:
		fmt.Fprint(stdout, usage)
		return 0
	case showVersion:
		fmt.Fprintf(stdout, "wdmd version %s\n", version)
		return 0
	case dump:
		return printDump(c.Place.Socket, stdout)
	case probe:
		return printProbe(c.program(&o), stdout, stderr)
	default:
	}
	if o.bad {
		// Stock starts all the same, without what was asked for.
		fmt.Fprintln(stderr, "wdmd: not started")
		return 1
	}
	return daemon(c.program(&o), o.debug, stderr)
}

func (c *Config) program(o *options) *wdmd.Program {
	p := &wdmd.Program{
		Place: c.Place, Source: c.Source(o.device), Group: o.group, High: o.high,
		Kill: time.Duration(o.kill) * time.Second,
	}
	if o.allowScripts {
		p.Scripts = o.scripts
	}
	return p
}

// daemon runs the daemon, here or, unless it is to be debugged, in a session of its own.
func daemon(p *wdmd.Program, debug bool, stderr io.Writer) int {
	if !debug && os.Getenv(detachedEnv) == "" {
		if err := place.Detach(detachedEnv); err != nil {
			fmt.Fprintln(stderr, "detach:", err)
			return 1
		}
		return 0
	}
	j := newJournal(debug, stderr)
	defer j.Close()
	p.Log = j.logger()
	if err := p.Run(); err != nil {
		p.Log.Error().Msg(err.Error())
		// What stock's main returns for any error.
		return 255
	}
	return 0
}

// printDump prints what the daemon says of itself.
func printDump(socket string, stdout io.Writer) int {
	c, err := net.DialTimeout("unix", socket, dumpWait)
	if err != nil {
		return 1
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(dumpWait)); err != nil {
		return 1
	}
	m := wdmdwire.Message{Command: wdmdwire.DumpDebug}
	if _, err := c.Write(m.Append(nil)); err != nil {
		return 1
	}
	p := make([]byte, wdmdwire.MaxDump)
	n, err := c.Read(p)
	if err != nil {
		return 1
	}
	fmt.Fprintf(stdout, "%s", p[:n])
	return 0
}

// printProbe prints the path of the first device that can be used.
func printProbe(p *wdmd.Program, stdout, stderr io.Writer) int {
	path, faults, err := p.Probe()
	for _, f := range faults {
		fmt.Fprintln(stderr, describe(f))
	}
	switch {
	case errors.Is(err, wdmd.ErrNoDevice):
		fmt.Fprintln(stderr, err)
		return 1
	case err != nil:
		fmt.Fprintf(stderr, "%v.\n", err)
		return 1
	}
	fmt.Fprintln(stdout, path)
	return 0
}

// describe words what is wrong with a device: stock's words, and ours after them where they say more.
func describe(err error) string {
	var e *chardev.Error
	var errno unix.Errno
	if !errors.As(err, &e) {
		return err.Error()
	}
	_ = errors.As(err, &errno)
	text := fmt.Sprintf("error %d %s %s", int(errno), e.Step, e.Path)
	if errno == 0 || errno == unix.EBUSY {
		text += ": " + e.Err.Error()
	}
	return text
}
