package sanlockcli

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"syscall"

	"github.com/tenurelock/tenure/daemon/config"
)

// The versions that this command line says it is: stock's, since scripts compare them.
const (
	version = "3.8.5"
	built   = "Tenure"
)

// Config says what the command line runs with. The zero value is the system's.
type Config struct {
	// Daemon runs `sanlock daemon` with its options parsed and returns the exit code.
	Daemon func(o *Options, stdout, stderr io.Writer) int
	// RunDir is where the daemon's socket lies; "" means the environment's SANLOCK_RUN_DIR or stock's default.
	RunDir string
	// ConfigPath is the configuration file; "" means config.Path.
	ConfigPath string
	// Exec replaces the process by a program (`client command -c`); nil means execve.
	Exec func(path string, argv, env []string) error
}

// Main runs one command line, args[0] being the name of the program, and returns its exit code.
func Main(c Config, args []string, stdout, stderr io.Writer) int {
	if c.ConfigPath == "" {
		c.ConfigPath = config.Path
	}
	if c.Exec == nil {
		c.Exec = syscall.Exec
	}
	if len(args) < 2 {
		fmt.Fprint(stdout, usage)
		return 0
	}
	switch args[1] {
	case "help", "--help", "-h":
		fmt.Fprint(stdout, usage)
		return 0
	case "version":
		fmt.Fprintln(stdout, version)
		return 0
	case "--version", "-V":
		fmt.Fprintf(stdout, "%s %s (built %s)\n", filepath.Base(args[0]), version, built)
		return 0
	}
	file, err := config.Load(c.ConfigPath)
	if err != nil {
		fmt.Fprintf(stderr, "%v; going on with the defaults\n", err)
	}
	o, code, ok := parseArgs(args[1:], file, stdout)
	if !ok {
		return code
	}
	switch o.Program {
	case Daemon:
		if c.Daemon == nil {
			fmt.Fprintln(stderr, "this program has no daemon in it")
			return 1
		}
		return c.Daemon(o, stdout, stderr)
	case Direct:
		return runDirect(o, stdout)
	default:
		a := asker{Options: o, ctx: context.Background(), runDir: c.RunDir, out: stdout, exec: c.Exec}
		return a.run()
	}
}
