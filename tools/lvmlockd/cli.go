package lvmlockd

import (
	_ "embed" // usage.txt
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"

	"github.com/rs/zerolog"

	"github.com/tenurelock/tenure/daemon/lvmlock"
	"github.com/tenurelock/tenure/daemon/lvmlock/fake"
	"github.com/tenurelock/tenure/daemon/lvmlockd"
	"github.com/tenurelock/tenure/daemon/lvmwire"
	"github.com/tenurelock/tenure/daemon/place"
)

//go:embed usage.txt
var usage string

// versions are what --version prints, by dialect; scripts compare them.
var versions = map[lvmwire.Dialect]string{
	lvmwire.Dialect16: "2.03.16(2) (2022-05-18)",
	lvmwire.Dialect40: "2.03.40(2)-git (2026-03-13) sanlock_support 385",
}

const (
	// detachedEnv tells the program that it was started by detach.
	detachedEnv = "TENURE_LVMLOCKD_DETACHED"
	// readyFD is where a detached program tells that it can be connected to.
	readyFD = 3
)

// Managers makes the lock managers that a daemon is to ask.
type Managers func(o *Options, log zerolog.Logger) ([]lvmlock.LockManager, error)

// Main runs one command line, args[0] being the name of the program, and returns its exit code.
func Main(managers Managers, args []string, stdout, stderr io.Writer) int {
	o, action, err := parse(args, stderr)
	switch {
	case errors.Is(err, errUsage):
		fmt.Fprint(stdout, usage)
		return 1
	case err != nil:
		fmt.Fprintln(stderr, err)
		return 1
	case action == showUsage:
		fmt.Fprint(stdout, usage)
		return 0
	case action == showVersion:
		fmt.Fprintf(stdout, "lvmlockd version: %s\n", versions[o.Dialect])
		return 0
	}
	detached := os.Getenv(detachedEnv) != ""
	if !o.Foreground && !detached {
		return detach(stderr)
	}
	c := o.Config
	c.Stderr = stderr
	c.Managers = func(log zerolog.Logger) ([]lvmlock.LockManager, error) {
		if o.Test {
			return testManagers(o.GL), nil
		}
		return managers(&o, log)
	}
	if o.Test {
		c.Adopt = false
	}
	if detached {
		c.Ready = tellReady
	}
	return lvmlockd.Run(c)
}

// testManagers keep their locks in memory. The type of the global lock comes first, so that it is taken where none is
// named.
func testManagers(gl lvmwire.LockType) []lvmlock.LockManager {
	types := []lvmwire.LockType{lvmwire.Sanlock, lvmwire.DLM}
	if gl == lvmwire.DLM {
		types[0], types[1] = types[1], types[0]
	}
	all := make([]lvmlock.LockManager, 0, len(types))
	for _, t := range types {
		c := fake.Config{Type: t, GlobalAnywhere: true}
		if t == lvmwire.Sanlock {
			c.JoinDelay = fake.TestJoinDelay
		}
		all = append(all, fake.New(c))
	}
	return all
}

// detach starts this program again and waits until it can be connected to. If it ends before that its exit code is ours.
func detach(stderr io.Writer) int {
	ready, tell, err := os.Pipe()
	if err != nil {
		fmt.Fprintln(stderr, "detach:", err)
		return 1
	}
	defer ready.Close()
	cmd := place.Again(detachedEnv)
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = []*os.File{tell}
	err = cmd.Start()
	tell.Close()
	if err != nil {
		fmt.Fprintln(stderr, "detach:", err)
		return 1
	}
	if n, _ := ready.Read(make([]byte, 1)); n == 1 {
		_ = cmd.Process.Release()
		return 0
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return 1
}

// tellReady is the other end of detach. Then nothing of the terminal is left.
func tellReady() {
	f := os.NewFile(readyFD, "ready")
	_, _ = f.Write([]byte{1}) // whoever started us went away
	f.Close()
	if null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0); err == nil {
		_ = syscall.Dup3(int(null.Fd()), 2, 0)
		null.Close()
	}
}
