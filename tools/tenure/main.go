// Command tenure is every program of the project in one binary.
//
// Called as sanlock, wdmd, lvmlockd or lvmlockctl (by a link of that name, or with that name as first
// argument) it is that program, with the command line, texts and exit codes of the stock one.
package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/tenurelock/tenure/daemon/helper"
)

// version is set at build time: -ldflags "-X main.version=…".
var version = "devel"

// program runs with os.Args as its own would be: args[0] is its name.
type program struct {
	about string
	run   func(args []string, stdout, stderr io.Writer) int
}

func programs() map[string]program {
	return map[string]program{
		"sanlock":    {"lease daemon, its clients and direct inspection of a device", sanlock},
		"wdmd":       {"watchdog daemon", wdmd},
		"lvmlockd":   {"LVM lock daemon", lvmLockd},
		"lvmlockctl": {"control of lvmlockd", lvmLockctl},
	}
}

func main() {
	if os.Args[0] == helper.Name {
		os.Exit(helper.Main(os.Args)) // the daemon's own second process; nobody else calls it so
	}
	os.Exit(run(os.Args, os.Stdout, os.Stderr))
}

// run picks the program by the name it was called with, then by the first argument.
func run(args []string, stdout, stderr io.Writer) int {
	known := programs()
	if p, ok := known[filepath.Base(args[0])]; ok {
		return p.run(args, stdout, stderr)
	}
	if len(args) > 1 {
		if p, ok := known[args[1]]; ok {
			return p.run(args[1:], stdout, stderr)
		}
		if c, ok := commands()[args[1]]; ok {
			return c.run(args[1:], stdout, stderr)
		}
	}
	return usage(args, stdout, stderr)
}

// commands are the new-style commands, those that no stock program has.
func commands() map[string]program {
	return map[string]program{
		"demo":    {"two hosts, one lease, a crash and a hand-over, on a file or a device", demo},
		"version": {"print the version", printVersion},
	}
}

func usage(args []string, stdout, stderr io.Writer) int {
	out, code := stdout, 0
	if len(args) > 1 && !strings.HasPrefix(args[1], "-h") && args[1] != "--help" && args[1] != "help" {
		fmt.Fprintf(stderr, "tenure: there is no command %q\n", args[1])
		out, code = stderr, 1
	}
	fmt.Fprintln(out, "usage: tenure COMMAND [--help] …\n\nprograms (also by a link of that name):")
	list(out, programs())
	fmt.Fprintln(out, "\ncommands:")
	list(out, commands())
	return code
}

func list(w io.Writer, m map[string]program) {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		fmt.Fprintf(w, "  %-12s %s\n", name, m[name].about)
	}
}

func printVersion(_ []string, stdout, _ io.Writer) int {
	fmt.Fprintln(stdout, "tenure", version)
	return 0
}
