package place

import (
	"os"
	"os/exec"
	"syscall"
)

// Again is the start of this program with the same arguments in a session of its own, without a terminal, and with
// the variable named mark in its environment, by which it knows. A Go program cannot fork: the second start reads the
// arguments once more and does all the rest.
func Again(mark string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = os.Args
	cmd.Env = append(os.Environ(), mark+"=1")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd
}

// Detach starts this program again and lets it go.
func Detach(mark string) error {
	cmd := Again(mark)
	if err := cmd.Start(); err != nil {
		return err
	}
	return cmd.Process.Release()
}
