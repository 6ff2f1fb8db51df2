package main

import (
	"io"

	"github.com/rs/zerolog"

	"github.com/tenurelock/tenure/daemon/lvmlock"
	"github.com/tenurelock/tenure/daemon/lvmlock/dlm"
	"github.com/tenurelock/tenure/daemon/lvmlock/native"
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

// lockManagers are those that lvmlockd can ask. sanlock comes first, as in stock's probing.
func lockManagers(o *lvmlockd.Options, log zerolog.Logger) ([]lvmlock.LockManager, error) {
	return []lvmlock.LockManager{
		native.New(native.Config{IOTimeout: uint32(o.IOTimeout), Log: log}), //nolint:gosec // parsed as a small number
		dlm.New(dlm.Config{Log: log}),
	}, nil
}
