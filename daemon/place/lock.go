package place

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// What Lock was doing when it failed.
const (
	Open     = "open"
	SetLk    = "setlk" // somebody else has the lock
	Truncate = "truncate"
	Write    = "write"
)

// LockError is a lock file that could not be taken.
type LockError struct {
	Step string // Open, SetLk, Truncate or Write
	Path string
	Err  error
}

func (e *LockError) Error() string {
	return fmt.Sprintf("lockfile %s error %s: %s", e.Step, e.Path, e.Reason())
}

func (e *LockError) Unwrap() error { return e.Err }

// Reason words the cause as strerror does: Go begins the same words in lower case, and log readers know the others.
func (e *LockError) Reason() string {
	var errno unix.Errno
	if !errors.As(e.Err, &errno) {
		return e.Err.Error()
	}
	text := errno.Error()
	return strings.ToUpper(text[:1]) + text[1:]
}

// Lock makes sure that this process is the only one that has the file at path, and writes its pid there. The lock
// counts, not the file, which may stay behind; it lives as long as the file that is returned is open. An error is a
// *LockError.
func Lock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, &LockError{Step: Open, Path: path, Err: err}
	}
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_SETLK, &lock); err != nil {
		f.Close()
		return nil, &LockError{Step: SetLk, Path: path, Err: err}
	}
	if err := f.Truncate(0); err != nil {
		f.Close()
		return nil, &LockError{Step: Truncate, Path: path, Err: err}
	}
	if _, err := fmt.Fprintf(f, "%d\n", os.Getpid()); err != nil {
		f.Close()
		return nil, &LockError{Step: Write, Path: path, Err: err}
	}
	return f, nil
}
