package lvmlockctl

import (
	_ "embed" // usage.txt
	"fmt"
	"io"
	"log/syslog"

	"github.com/tenurelock/tenure/daemon/lvmwire"
)

//go:embed usage.txt
var usage string

const (
	// defaultSocket is compiled into stock's, which takes no other.
	defaultSocket = "/run/lvm/lvmlockd.socket"
	defaultLVM    = "/sbin/lvm"
	// exitFailure is what stock's main returns for any error.
	exitFailure = 255
)

// Config says what the command line runs with. The zero value is the system's.
type Config struct {
	Socket     string
	DumpSocket string // abstract name
	LVM        string // the lvm program
	Syslog     func(p syslog.Priority, text string) error
}

// machine is one command line that runs.
type machine struct {
	Config
	stdout, stderr io.Writer
	teller         *teller
}

// Main runs one command line, args[0] being the name of the program, and returns its exit code.
func Main(c Config, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if err != nil {
		fmt.Fprint(stdout, usage)
		return 1
	}
	if o.help {
		fmt.Fprint(stdout, usage)
		return 0
	}
	for _, f := range []struct {
		s     *string
		other string
	}{{&c.Socket, defaultSocket}, {&c.DumpSocket, dumpSocket}, {&c.LVM, defaultLVM}} {
		if *f.s == "" {
			*f.s = f.other
		}
	}
	if c.Syslog == nil {
		c.Syslog = toSyslog
	}
	m := &machine{Config: c, stdout: stdout, stderr: stderr}
	m.teller = &teller{toStderr: o.stderr, stderr: stderr, syslog: c.Syslog}
	switch {
	case o.kill:
		return m.kill(o.vg)
	case o.drop:
		return m.drop(o.vg)
	}
	return m.ask(&o)
}

// ask does what needs nothing but an answer. That lvmlockd refuses is no failure.
func (m *machine) ask(o *options) int {
	client, err := connect(m.Socket)
	if err != nil {
		fmt.Fprintln(m.stderr, err)
		fmt.Fprintln(m.stdout, "Cannot connect to lvmlockd.")
		return exitFailure
	}
	defer client.Close()
	var r lvmwire.Request
	switch {
	case o.quit:
		r = lvmwire.Request{Name: "quit"}
	case o.info || o.dump:
		return m.print(client, o)
	case o.able != "":
		r = lvmwire.Request{Name: o.able, VGName: o.vg}
	case o.stop:
		r = lvmwire.Request{Name: "stop_all"}
		if o.wait {
			r.Opts = "wait"
		}
	case o.remote:
		r = lvmwire.Request{Name: "set_remote_lv_lock", VGName: o.vg, LVUUID: o.uuid, Mode: o.mode}
	default:
		return 0
	}
	if _, err := client.ask(r); err != nil {
		fmt.Fprintln(m.stderr, err)
		return exitFailure
	}
	return 0
}

// print prints the locks or the log.
func (m *machine) print(c *client, o *options) int {
	name := "dump"
	if o.info {
		name = "info"
	}
	text, err := c.dump(name, m.DumpSocket)
	switch {
	case err != nil:
		fmt.Fprintln(m.stderr, err)
		return exitFailure
	case !o.info:
		_, err = m.stdout.Write(text)
	case o.dump:
		_, err = fmt.Fprintf(m.stdout, "%s\n", text)
	default:
		printInfo(m.stdout, string(text))
	}
	if err != nil {
		return exitFailure
	}
	return 0
}
