// Package need lets a test say what it needs of the machine: root, loop devices, a stock program.
//
// A test whose need is not met is skipped with that reason. TENURE_REQUIRE lists needs, separated by commas,
// whose absence is a failure instead; continuous integration sets those that it can install, so that no test is
// skipped there by accident. The words are root, loop, sanlock, lvm, qemu, cc, python, spin, fuse, realtime.
package need

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Unmet skips the test for want of what a word stands for, or fails it if TENURE_REQUIRE names that.
func Unmet(tb testing.TB, need, format string, args ...any) {
	tb.Helper()
	reason := "needs " + need + ": " + fmt.Sprintf(format, args...)
	if slices.Contains(strings.Split(os.Getenv("TENURE_REQUIRE"), ","), need) {
		tb.Fatal(reason + " (required by TENURE_REQUIRE)")
	}
	tb.Skip(reason)
}

// Root skips the test unless it runs as root.
func Root(tb testing.TB) {
	tb.Helper()
	if os.Geteuid() != 0 {
		Unmet(tb, "root", "running as uid %d", os.Geteuid())
	}
}

// RealTime skips the test unless its process may have real-time priority.
func RealTime(tb testing.TB) {
	tb.Helper()
	const first = 1 // the lowest priority of SCHED_RR
	tried := make(chan error)
	go func() {
		// The thread is not given back, and so ends with this goroutine.
		runtime.LockOSThread()
		attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_RR, Priority: first}
		tried <- unix.SchedSetAttr(0, &attr, 0)
	}()
	if err := <-tried; err != nil {
		Unmet(tb, "realtime", "sched_setattr: %v", err)
	}
}

// Loop attaches a loop device with the given logical sector size to a new sparse file of size bytes and
// returns the device's path. It is detached when the test ends.
func Loop(tb testing.TB, sectorSize int, size int64) string {
	tb.Helper()
	return LoopIn(tb, tb.TempDir(), sectorSize, size)
}

// LoopIn is Loop with the file, loop.img, in a directory that the caller removes: after the device is detached.
func LoopIn(tb testing.TB, dir string, sectorSize int, size int64) string {
	tb.Helper()
	if os.Geteuid() != 0 {
		Unmet(tb, "loop", "attaching a loop device needs root")
	}
	losetup, err := exec.LookPath("losetup")
	if err != nil {
		Unmet(tb, "loop", "no losetup on this machine")
	}
	backing := filepath.Join(dir, "loop.img")
	if err := os.WriteFile(backing, nil, 0o600); err != nil {
		tb.Fatal(err)
	}
	if err := os.Truncate(backing, size); err != nil {
		tb.Fatal(err)
	}
	out, err := exec.Command(losetup, "--find", "--show", "--direct-io=on",
		"--sector-size", fmt.Sprint(sectorSize), backing).CombinedOutput()
	if err != nil {
		Unmet(tb, "loop", "losetup: %v: %s", err, strings.TrimSpace(string(out)))
	}
	dev := strings.TrimSpace(string(out))
	// Detached while it is open, the kernel keeps it until nobody has it open: also if the test is killed.
	f, err := os.OpenFile(dev, os.O_RDONLY, 0)
	if err == nil {
		tb.Cleanup(func() {
			if err := f.Close(); err != nil {
				tb.Error(err)
			}
		})
	}
	if out, err2 := exec.Command(losetup, "--detach", dev).CombinedOutput(); err != nil || err2 != nil {
		tb.Fatalf("hold %s: %v, %v: %s", dev, err, err2, out)
	}
	return dev
}

// Program returns the path of a stock program, looked for where Debian installs it and never in our own
// bin. The words sanlock, wdmd, lvm, lvmlockd, lvmlockctl, python3, cc, spin and qemu-system-x86_64 are known.
func Program(tb testing.TB, name string) string {
	tb.Helper()
	for _, dir := range []string{"/usr/sbin", "/usr/bin", "/sbin", "/bin"} {
		if p := filepath.Join(dir, name); exec.Command("test", "-x", p).Run() == nil {
			return p
		}
	}
	if name == "cc" || name == "python3" {
		if p, err := exec.LookPath(name); err == nil {
			return p
		}
	}
	Unmet(tb, needOf(name), "%s is not installed", name)
	return ""
}

// needOf maps a program to the word that TENURE_REQUIRE uses for it.
func needOf(program string) string {
	switch {
	case program == "wdmd":
		return "sanlock"
	case strings.HasPrefix(program, "qemu"):
		return "qemu"
	case strings.HasPrefix(program, "lvmlock"):
		return "lvm"
	case program == "python3":
		return "python"
	}
	return program
}
