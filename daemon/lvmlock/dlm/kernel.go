package dlm

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Kernel opens the devices of a lock manager in a kernel. Paths and nodes are its business.
type Kernel interface {
	// Control opens the device that creates and removes lockspaces. Reading from it gives its version.
	Control() (Device, error)
	// Minor finds the minor number of a lockspace of this host; fs.ErrNotExist if there is none.
	Minor(space string) (int, error)
	// Open opens a lockspace.
	Open(space string, minor int) (Device, error)
}

// Device is an open device.
type Device interface {
	// Write hands over one command and returns what the kernel returned, which is no length. It may block while the
	// cluster changes. Several may be under way.
	Write(command []byte) (int, error)
	// Read waits for one result. Close ends it with os.ErrClosed.
	Read(result []byte) (int, error)
	Close() error
}

const (
	miscMajor  = 10
	controlDev = "dlm-control"
	spaceDev   = "dlm_"
)

// machine is this host's kernel.
type machine struct {
	dev  string // directory of the nodes
	misc string // the kernel's list of misc devices
}

var _ Kernel = machine{}

func (m machine) Control() (Device, error) {
	minor, err := m.minor(controlDev)
	if err != nil {
		return nil, err
	}
	return m.open(controlDev, minor)
}

func (m machine) Minor(space string) (int, error) { return m.minor(spaceDev + space) }

func (m machine) Open(space string, minor int) (Device, error) { return m.open(spaceDev+space, minor) }

func (m machine) minor(name string) (int, error) {
	f, err := os.Open(m.misc)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		var minor int
		var have string
		if n, _ := fmt.Sscan(s.Text(), &minor, &have); n == 2 && have == name {
			return minor, nil
		}
	}
	return 0, fmt.Errorf("misc device %s: %w (is the kernel module dlm loaded?)", name, fs.ErrNotExist)
}

// open opens a misc device by whichever node there is; where nobody makes nodes it makes one.
func (m machine) open(name string, minor int) (Device, error) {
	want := unix.Mkdev(miscMajor, uint32(minor))
	path := filepath.Join(m.dev, name)
	for _, p := range []string{filepath.Join(m.dev, "misc", name), path} {
		var st unix.Stat_t
		if unix.Stat(p, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == want {
			return open(p)
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := unix.Mknod(path, unix.S_IFCHR|0o600, int(want)); err != nil {
		return nil, fmt.Errorf("mknod %s, device %d:%d: %w", path, miscMajor, minor, err)
	}
	return open(path)
}

// node is a device of this host. Its reads wait in Go's poller, its writes in the kernel.
type node struct{ f *os.File }

func open(path string) (Device, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return node{f}, nil
}

// Write does without File.Write, which takes a returned number for a length.
func (n node) Write(p []byte) (ret int, err error) {
	raw, err := n.f.SyscallConn()
	if err != nil {
		return 0, err
	}
	if gone := raw.Control(func(fd uintptr) {
		ret, err = unix.Write(int(fd), p)
	}); gone != nil {
		return 0, gone
	}
	return ret, err
}

func (n node) Read(p []byte) (int, error) { return n.f.Read(p) }

func (n node) Close() error { return n.f.Close() }
