package sanlockd

import (
	"os"
	"os/exec"
	"syscall"
)

// detachedEnv tells the program that it was started by detach.
const detachedEnv = "TENURE_DETACHED"

// detach starts this program again in a session of its own, without a terminal. A Go program cannot fork;
// the second start reads the same arguments and does the rest, the lock file included.
func detach() error {
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = os.Args
	cmd.Env = append(os.Environ(), detachedEnv+"=1")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	return cmd.Process.Release()
}
