package helper

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
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
	path, err := exec.LookPath(argv[0])
	if err == nil || errors.Is(err, exec.ErrDot) {
		err = syscall.Exec(path, argv, os.Environ())
	}
	fmt.Fprintln(os.Stderr, argv[0]+":", err)
	return notFound
}
