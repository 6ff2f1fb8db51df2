package sanlockd

import (
	"errors"
	"fmt"
	"os"
)

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
