package lvmlockd

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrRunning says that another daemon uses the pid file or the socket.
var ErrRunning = errors.New("already running")

// takePIDFile makes sure that this is the only daemon, and writes the file that LVM commands look for before they
// connect. The lock counts, not the file; it lives as long as the file that is returned is open.
func takePIDFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("cannot open lockfile [%s], error was [%s]", path, stockText(err))
	}
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_SETLK, &lock); err != nil {
		f.Close()
		return nil, fmt.Errorf("%w: cannot lock lockfile [%s], error was [%s]", ErrRunning, path, stockText(err))
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = fmt.Fprintf(f, "%d\n", os.Getpid())
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("cannot write lockfile [%s], error was [%s]", path, stockText(err))
	}
	return f, nil
}

// stockText words an errno as strerror does, where Go begins it in lower case.
func stockText(err error) string {
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return err.Error()
	}
	text := errno.Error()
	return strings.ToUpper(text[:1]) + text[1:]
}
