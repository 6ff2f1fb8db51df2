package wdmdcli

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/tenurelock/tenure/watchdog/wdmd"
)

// action is what a command line asks for.
type action int

const (
	serve action = iota
	showUsage
	showVersion
	dump
	probe
)

// options are those of one command line.
type options struct {
	action       action
	bad          bool // something was not understood; a complaint was printed
	debug        bool
	high         bool
	allowScripts bool
	group        string
	scripts      string
	device       string
	kill         int
}

// long are the long forms. They may be cut as long as they stay unique.
var long = map[string]byte{"help": 'h', "probe": 'p', "dump": 'd', "version": 'V'}

const (
	flags  = "hpdVD"
	valued = "HGSskw"
)

// parse reads a command line as getopt_long does: options may be combined, values attached, and what is no option
// is passed over. Help, version and dump are done when they are met, a probe after all options.
func parse(args []string, stderr io.Writer) options {
	o := options{high: true, group: wdmd.DefaultGroup, scripts: wdmd.DefaultScripts}
	complain := func(format string, a ...any) {
		fmt.Fprintf(stderr, "%s: "+format+"\n", append([]any{args[0]}, a...)...)
		o.bad = true
	}
	for i := 1; i < len(args) && !o.done(); i++ {
		arg := args[i]
		if arg == "--" {
			break
		}
		if name, ok := strings.CutPrefix(arg, "--"); ok {
			letter, complaint := longOption(name)
			if complaint != "" {
				complain("%s", complaint)
				continue
			}
			o.set(letter, "")
			continue
		}
		if len(arg) < 2 || arg[0] != '-' {
			continue
		}
		for j := 1; j < len(arg) && !o.done(); j++ {
			letter := arg[j]
			switch {
			case strings.IndexByte(flags, letter) >= 0:
				o.set(letter, "")
			case strings.IndexByte(valued, letter) < 0:
				complain("invalid option -- '%c'", letter)
			case j+1 < len(arg):
				o.set(letter, arg[j+1:])
				j = len(arg)
			case i+1 < len(args):
				i++
				o.set(letter, args[i])
				j = len(arg)
			default:
				complain("option requires an argument -- '%c'", letter)
			}
		}
	}
	return o
}

// done reports whether the rest of the command line does not count.
func (o *options) done() bool {
	return o.action == showUsage || o.action == showVersion || o.action == dump
}

// longOption finds a long option by its name, which may be cut, or says what is wrong with it.
func longOption(text string) (letter byte, complaint string) {
	name, _, hasValue := strings.Cut(text, "=")
	var found []string
	for full := range long {
		if strings.HasPrefix(full, name) {
			found = append(found, full)
		}
	}
	switch {
	case len(found) != 1:
		return 0, fmt.Sprintf("unrecognized option '--%s'", text)
	case hasValue:
		return 0, fmt.Sprintf("option '--%s' doesn't allow an argument", found[0])
	}
	return long[found[0]], ""
}

// set stores an option. A value that is no number is 0.
func (o *options) set(letter byte, value string) {
	number, _ := strconv.Atoi(value)
	switch letter {
	case 'h':
		o.action = showUsage
	case 'V':
		o.action = showVersion
	case 'd':
		o.action = dump
	case 'p':
		o.action = probe
	case 'D':
		o.debug = true
	case 'H':
		o.high = number != 0
	case 'G':
		o.group = value
	case 'S':
		o.allowScripts = number != 0
	case 's':
		o.scripts = value
	case 'k':
		o.kill = max(number, 0)
	case 'w':
		o.device = value
	}
}
