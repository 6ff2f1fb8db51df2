package lvmlockctl

import (
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/tenurelock/tenure/daemon/lvmwire"
	"github.com/tenurelock/tenure/tools/getopt"
)

// known are the options. Stock lists --force and then does not take it.
var known = []getopt.Option{
	{Letter: 'h', Name: "help"},
	{Letter: 'q', Name: "quit"},
	{Letter: 'i', Name: "info"},
	{Letter: 'd', Name: "dump"},
	{Letter: 'w', Name: "wait", Valued: true},
	{Name: "force", Valued: true},
	{Letter: 'k', Name: "kill", Valued: true},
	{Letter: 'r', Name: "drop", Valued: true},
	{Letter: 'E', Name: "gl-enable", Valued: true},
	{Letter: 'D', Name: "gl-disable", Valued: true},
	{Letter: 'S', Name: "stop-lockspaces"},
	{Letter: 'e', Name: "stderr"},
	{Name: "set-remote-lv-lock", Valued: true},
	{Name: "lv-uuid", Valued: true},
	{Name: "lock-mode", Valued: true},
}

// options are those of one command line.
type options struct {
	help, quit, info, dump, stop, stderr bool
	wait                                 bool
	kill, drop                           bool
	able                                 string // enable_gl or disable_gl
	remote                               bool
	vg, uuid                             string
	mode                                 lvmwire.Mode
}

// errUsage says that the usage is to be printed, after a complaint or without one.
var errUsage = errors.New("usage")

func parse(args []string, stderr io.Writer) (options, error) {
	o := options{help: len(args) < 2, wait: true, mode: lvmwire.Invalid}
	for f, err := range getopt.All(args, known) {
		if err != nil {
			fmt.Fprintln(stderr, err)
			return o, errUsage
		}
		switch f.Option.Name {
		case "help":
			o.help = true
			return o, nil
		case "force":
			return o, errUsage
		default:
			o.set(f.Option.Name, f.Value)
		}
	}
	return o, nil
}

func (o *options) set(name, value string) {
	switch name {
	case "quit":
		o.quit = true
	case "info":
		o.info = true
	case "dump":
		o.dump = true
	case "stop-lockspaces":
		o.stop = true
	case "stderr":
		o.stderr = true
	case "wait":
		n, _ := strconv.Atoi(value)
		o.wait = n != 0
	case "kill":
		o.kill, o.vg = true, value
	case "drop":
		o.drop, o.vg = true, value
	case "gl-enable":
		o.able, o.vg = "enable_gl", value
	case "gl-disable":
		o.able, o.vg = "disable_gl", value
	case "set-remote-lv-lock":
		o.remote, o.vg = true, value
	case "lv-uuid":
		o.uuid = value
	case "lock-mode":
		o.mode = lvmwire.ParseMode(value)
	}
}
