package sanlockd

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// takeLock makes sure that this is the only daemon of its run directory. The lock counts, not the file, which
// stays behind; it lives as long as the file that is returned is open.
func takeLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lockfile open error %s: %s", path, stockText(err))
	}
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_SETLK, &lock); err != nil {
		f.Close()
		return nil, fmt.Errorf("lockfile setlk error %s: %s", path, stockText(err))
	}
	if err := f.Truncate(0); err != nil {
		f.Close()
		return nil, fmt.Errorf("lockfile truncate error %s: %s", path, stockText(err))
	}
	if _, err := fmt.Fprintf(f, "%d\n", os.Getpid()); err != nil {
		f.Close()
		return nil, fmt.Errorf("lockfile write error %s: %s", path, stockText(err))
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

// makeRunDir makes the run directory and gives it its owner.
func makeRunDir(cfg *Config) error {
	if err := os.Mkdir(cfg.RunDir, 0o775); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("run directory: %w", err)
	}
	gid := cfg.GID
	if !cfg.Unprivileged {
		gid = 0
	}
	giveTo(cfg, cfg.RunDir, cfg.UID, gid)
	return nil
}

// giveTo changes an owner. Where that is not allowed it stays ours, so that fewer may connect, not more.
func giveTo(cfg *Config, path string, uid, gid int) {
	if err := os.Chown(path, uid, gid); err != nil {
		cfg.Log.Warn().Msgf("%v; it stays ours, going on", err)
	}
}
