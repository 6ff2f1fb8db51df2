package main

import (
	"errors"
	"io"

	"github.com/rs/zerolog"

	"github.com/tenurelock/tenure/daemon/lvmlock"
	"github.com/tenurelock/tenure/tools/lvmlockctl"
	"github.com/tenurelock/tenure/tools/lvmlockd"
)

// lvmLockd is LVM's lock daemon and its command line.
func lvmLockd(args []string, stdout, stderr io.Writer) int {
	return lvmlockd.Main(lockManagers, args, stdout, stderr)
}

// lvmLockctl is lvmlockd's control program.
func lvmLockctl(args []string, stdout, stderr io.Writer) int {
	return lvmlockctl.Main(lvmlockctl.Config{}, args, stdout, stderr)
}

// lockManagers are those that lvmlockd can ask.
func lockManagers(*lvmlockd.Options, zerolog.Logger) ([]lvmlock.LockManager, error) {
	return nil, errors.New("none is built in: only --test works")
}
