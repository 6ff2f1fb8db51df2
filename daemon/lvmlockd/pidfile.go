package lvmlockd

import (
	"errors"
	"fmt"
	"os"

	"github.com/tenurelock/tenure/daemon/place"
)

// ErrRunning says that another daemon uses the pid file or the socket.
var ErrRunning = errors.New("already running")

// takePIDFile makes sure that this is the only daemon, and writes the file that LVM commands look for before they
// connect. The words are those of LVM's daemons.
func takePIDFile(path string) (*os.File, error) {
	f, err := place.Lock(path)
	var lock *place.LockError
	if !errors.As(err, &lock) {
		return f, err
	}
	switch lock.Step {
	case place.SetLk:
		return nil, fmt.Errorf("%w: cannot lock lockfile [%s], error was [%s]", ErrRunning, path, lock.Reason())
	case place.Open:
		return nil, fmt.Errorf("cannot open lockfile [%s], error was [%s]", path, lock.Reason())
	default:
		return nil, fmt.Errorf("cannot write lockfile [%s], error was [%s]", path, lock.Reason())
	}
}
