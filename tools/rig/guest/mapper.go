package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// mapperPrefix is what the kernel calls devices of the device mapper.
const mapperPrefix = "dm-"

// mapped does for a device of the device mapper what udev would: it has a node by its name as soon as it is usable.
// Without it LVM makes the node at the end of its command, too late for the lock daemon that the command waits for.
// A device that has gone meanwhile is none of ours.
func mapped(name string) error {
	about := filepath.Join("/sys/block", name)
	mapping, err := os.ReadFile(filepath.Join(about, "dm/name"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	number, errNumber := os.ReadFile(filepath.Join(about, "dev"))
	if err := errors.Join(err, errNumber); err != nil {
		return err
	}
	var major, minor uint32
	if _, err := fmt.Sscanf(string(number), "%d:%d", &major, &minor); err != nil {
		return err
	}
	const groupDisk = 6
	path := filepath.Join("/dev/mapper", strings.TrimSpace(string(mapping)))
	made := "/dev/." + name // until it is whole: a lease daemon that is not root must be able to open it
	err = errors.Join(unix.Mknod(made, unix.S_IFBLK, int(unix.Mkdev(major, minor))),
		os.Chown(made, 0, groupDisk), os.Chmod(made, 0o660))
	if err == nil {
		err = os.Link(made, path)
	}
	if errors.Is(err, os.ErrExist) {
		err = nil // LVM was first
	}
	return errors.Join(err, os.Remove(made))
}
