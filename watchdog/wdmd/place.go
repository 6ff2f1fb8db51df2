package wdmd

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/tenurelock/tenure/daemon/place"
	"github.com/tenurelock/tenure/watchdog/wdmdwire"
)

// Place is where the daemon lives on this machine.
type Place struct {
	Socket string
	Lock   string // holds the pid; locked while the daemon runs
	// Marker exists from the start of a daemon to its clean end. It outlives a crash, but not a reboot: a
	// second daemon must not pet the device that is about to reset this host.
	Marker string
}

// DefaultPlace is where clients look.
func DefaultPlace() Place {
	dir := filepath.Dir(wdmdwire.SocketPath)
	return Place{Socket: wdmdwire.SocketPath, Lock: filepath.Join(dir, "wdmd.pid"), Marker: "/dev/shm/wdmd"}
}

// Held is a place that a daemon has taken.
type Held struct {
	place Place
	lock  *os.File
}

// Take makes sure that this is the only daemon, and that none ended uncleanly since this machine started.
func (p Place) Take() (*Held, error) {
	if err := os.MkdirAll(filepath.Dir(p.Lock), 0o755); err != nil {
		return nil, fmt.Errorf("run directory: %w", err)
	}
	f, err := place.Lock(p.Lock)
	if lock, ok := errors.AsType[*place.LockError](err); ok && lock.Step == place.SetLk {
		return nil, fmt.Errorf("%w; another wdmd is running", err)
	}
	if err != nil {
		return nil, err
	}
	marker, err := os.OpenFile(p.Marker, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o644)
	if err != nil {
		var errno unix.Errno
		_ = errors.As(err, &errno)
		return nil, errors.Join(fmt.Errorf("other wdmd not cleanly stopped, shm_open error %d (%s: %w); "+
			"reboot this host, it may be about to be reset", int(errno), p.Marker, err), f.Close())
	}
	return &Held{place: p, lock: f}, marker.Close()
}

// inUse reports whether a daemon runs, or has ended uncleanly.
func (p Place) inUse() bool {
	_, err := os.Stat(p.Marker)
	return !errors.Is(err, os.ErrNotExist)
}

// Listen makes the socket anew; an old one stays behind from every end of a daemon.
func (h *Held) Listen(gid int) (net.Listener, error) {
	path := h.place.Socket
	l, err := place.Listen(path, 0o660)
	if err != nil {
		return nil, err
	}
	if err := os.Chown(path, -1, gid); err != nil {
		return nil, errors.Join(fmt.Errorf("socket: %w", err), l.Close())
	}
	return l, nil
}

// Release gives the place back after a clean end. The socket stays behind.
func (h *Held) Release() error {
	return errors.Join(os.Remove(h.place.Marker), os.Remove(h.place.Lock), h.lock.Close())
}
