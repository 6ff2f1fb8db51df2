package lvmlockd

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// activatedFD is the first descriptor that systemd hands to a program.
	activatedFD = 3
	// probeWait bounds the question whether somebody listens.
	probeWait = 2 * time.Second
)

// listen makes the socket, which only root may use, or takes that of systemd. made says that it is ours to remove
// (spec lvmlockd 3.12).
func listen(path string) (l *net.UnixListener, made bool, err error) {
	if activated() {
		l, err = listenActivated()
		return l, false, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, false, fmt.Errorf("socket %s: %w", path, err)
	}
	switch info, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, false, fmt.Errorf("socket %s: %w", path, err)
	case info.Mode()&fs.ModeSocket == 0:
		return nil, false, fmt.Errorf("socket %s: it is no socket; remove it", path)
	default:
		if c, err := net.DialTimeout("unix", path, probeWait); err == nil {
			c.Close()
			return nil, false, fmt.Errorf("%w: somebody listens on %s", ErrRunning, path)
		}
		if err := os.Remove(path); err != nil {
			return nil, false, fmt.Errorf("socket %s: remove the old one: %w", path, err)
		}
	}
	// Nothing else makes files while the daemon starts.
	old := unix.Umask(0o077)
	l, err = net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	unix.Umask(old)
	if err != nil {
		return nil, false, fmt.Errorf("socket %s: %w", path, err)
	}
	return l, true, nil
}

// activated reports whether systemd listens for us.
func activated() bool {
	pid, _ := strconv.Atoi(os.Getenv("LISTEN_PID"))
	n, _ := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	return os.Getenv("SD_ACTIVATION") == "1" && pid == os.Getpid() && n == 1
}

func listenActivated() (*net.UnixListener, error) {
	f := os.NewFile(activatedFD, "activated socket")
	l, err := net.FileListener(f)
	f.Close()
	if err != nil {
		return nil, fmt.Errorf("socket of systemd: %w", err)
	}
	u, ok := l.(*net.UnixListener)
	if !ok {
		l.Close()
		return nil, fmt.Errorf("socket of systemd: it is of type %s, want unix", l.Addr().Network())
	}
	u.SetUnlinkOnClose(false)
	return u, nil
}

// notify tells systemd, if that started us, what became of us: "READY=1".
func notify(state string) error {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return nil
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	defer c.Close()
	if _, err := c.Write([]byte(state)); err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	return nil
}
