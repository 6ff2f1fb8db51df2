package helper

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Command returns the start of a program that is looked for in PATH, with nothing on its standard files.
//
// It lies in two steps. The first starts our own binary, which is in memory; the second, that process alone,
// becomes the program. So a program on storage that hangs holds up nobody who starts another one: Go starts
// one process at a time, each to the end of its exec.
func Command(path string, args []string) *exec.Cmd {
	c := exec.Command("/proc/self/exe")
	c.Args = append([]string{Name, becomeArg, path}, args...)
	return c
}

// notFound is the exit status of a program that could not be started, as shells have it.
const notFound = 127

// become turns this process into a program. It returns only if that failed.
func become(argv []string) int {
	runtime.LockOSThread() // the thread that is left by exec is this one
	beOrdinary()
	path, err := exec.LookPath(argv[0])
	if err == nil || errors.Is(err, exec.ErrDot) {
		err = syscall.Exec(path, argv, os.Environ())
	}
	fmt.Fprintln(os.Stderr, argv[0]+":", err)
	return notFound
}

// beOrdinary takes the real-time priority from this thread that it has inherited: a program that somebody wrote
// must not run before the daemon.
func beOrdinary() {
	attr, err := unix.SchedGetAttr(0, 0)
	if err != nil || attr.Policy != unix.SCHED_RR {
		return
	}
	// Any process may lower itself.
	_ = unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL}, 0)
}
