package chardev

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tenurelock/tenure/watchdog"
)

// Source are the watchdogs of this machine.
type Source struct {
	First string // tried before the others; "" for none
}

var _ watchdog.Source = Source{}

// Paths lists the candidates.
func (s Source) Paths() []string {
	all := []string{"/dev/watchdog0", "/dev/watchdog1", "/dev/watchdog"}
	if s.First == "" {
		return all
	}
	paths := []string{s.First}
	for _, p := range all {
		if p != s.First {
			paths = append(paths, p)
		}
	}
	return paths
}

// errBusy explains EBUSY: a watchdog has one opener.
type errBusy struct{ user string }

func (e errBusy) Error() string {
	return fmt.Sprintf("%v: another program has it open%s; a watchdog serves one program only "+
		"(systemd lets go of it with RuntimeWatchdogSec=0)", unix.EBUSY, e.user)
}

func (e errBusy) Unwrap() error { return unix.EBUSY }

// Open opens a device, which starts it, and asks its driver what it can do. What it refuses it stops again.
func (s Source) Open(path string) (watchdog.Device, error) {
	d, err := open(path)
	if err != nil {
		return nil, err
	}
	return d, nil
}

func open(path string) (*Device, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, &Error{Step: "stat", Path: path, Err: cause(err)}
	}
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EBUSY) {
		err = errBusy{user: opener(path)}
	}
	if err != nil {
		return nil, &Error{Step: "open", Path: path, Err: err}
	}
	return begin(path, &kernel{fd: fd, sys: attributes(fd)})
}

func cause(err error) error {
	if errno, ok := errors.AsType[unix.Errno](err); ok {
		return errno
	}
	return err
}

// opener names a process that has the device open, as far as that can be seen.
func opener(path string) string {
	files, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return ""
	}
	// The legacy name and that of the first device are the same device.
	for _, f := range files {
		to, err := os.Readlink(f)
		if err != nil || to != path && !strings.HasPrefix(to, "/dev/watchdog") {
			continue
		}
		pid := strings.Split(f, "/")[2]
		name, err := os.ReadFile("/proc/" + pid + "/comm")
		if err != nil {
			continue
		}
		return fmt.Sprintf(" (%s, pid %s, has %s)", strings.TrimSpace(string(name)), pid, to)
	}
	return ""
}

// kernel is a device of the kernel.
type kernel struct {
	fd  int
	sys string // directory of its attributes; "" if there is none
}

// attributes finds the directory of a device's attributes.
func attributes(fd int) string {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR {
		return ""
	}
	const miscMajor, watchdogMinor = 10, 130 // the legacy name, which belongs to the first device
	major, minor := unix.Major(st.Rdev), unix.Minor(st.Rdev)
	dir := fmt.Sprintf("/sys/dev/char/%d:%d", major, minor)
	if major == miscMajor && minor == watchdogMinor {
		dir = "/sys/class/watchdog/watchdog0"
	}
	if dir, err := filepath.EvalSymlinks(dir); err == nil {
		return dir
	}
	return ""
}

func (k *kernel) attribute(name string) (string, error) {
	if k.sys == "" {
		return "", os.ErrNotExist
	}
	p, err := os.ReadFile(filepath.Join(k.sys, name))
	return strings.TrimSpace(string(p)), err
}

func (k *kernel) Support() (uint32, string, error) {
	info, err := unix.IoctlGetWatchdogInfo(k.fd)
	if err != nil {
		return 0, "", err
	}
	return info.Options, unix.ByteSliceToString(info.Identity[:]), nil
}

func (k *kernel) Timeout() (int, error) { return unix.IoctlGetInt(k.fd, unix.WDIOC_GETTIMEOUT) }

func (k *kernel) SetTimeout(seconds int) error {
	return unix.IoctlSetPointerInt(k.fd, unix.WDIOC_SETTIMEOUT, seconds)
}

func (k *kernel) Keepalive() error { return unix.IoctlWatchdogKeepalive(k.fd) }

func (k *kernel) Magic() error {
	n, err := unix.Write(k.fd, []byte{'V'})
	if err == nil && n != 1 {
		err = errors.New("nothing was written")
	}
	return err
}

func (k *kernel) Close() error { return unix.Close(k.fd) }

func (k *kernel) NoWayOut() (bool, error) {
	text, err := k.attribute("nowayout")
	if err != nil {
		return false, err
	}
	n, err := strconv.Atoi(text)
	return n != 0, err
}

func (k *kernel) Stopped() (bool, error) {
	state, err := k.attribute("state")
	return state == "inactive", err
}
