package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// environment is what every program in the guest starts with.
var environment = []string{"PATH=/usr/sbin:/sbin:/usr/bin:/bin", "HOME=/root", "TERM=dumb", "DM_DISABLE_UDEV=1"}

// initialise is process 1: it makes the guest usable, starts the agent and then only reaps. The agent is a
// process of its own because whoever waits for any child takes the children away from os/exec.
func initialise() error {
	if os.Getpid() != 1 {
		return errors.New("guest: not the first process of a machine; run tools/rig, which starts machines")
	}
	if err := mounts(); err != nil {
		return err
	}
	options := kernelOptions()
	if err := unix.Sethostname([]byte("vm" + options["rig.id"])); err != nil {
		return fmt.Errorf("set the host name: %w", err)
	}
	for m := range strings.SplitSeq(options["rig.mods"], ",") {
		program := exec.Command("/bin/busybox", append([]string{"modprobe"}, strings.Split(m, ":")...)...)
		program.Env = environment
		if out, err := program.CombinedOutput(); err != nil {
			fmt.Printf("rig: modprobe %s: %v %s\n", m, err, out)
		}
	}
	// Messages of watchdogs and disks shall be seen on the console; the boot's own would only slow it down.
	if err := os.WriteFile("/proc/sys/kernel/printk", []byte("7\n"), 0); err != nil {
		fmt.Println("rig:", err)
	}
	up := exec.Command("/bin/busybox", "ip", "link", "set", "lo", "up")
	if err := up.Run(); err != nil {
		fmt.Println("rig: loopback interface:", err)
	}
	agent := &exec.Cmd{Path: "/init", Args: []string{"agent"}, Env: environment, Stdout: os.Stdout, Stderr: os.Stderr}
	if err := agent.Start(); err != nil {
		return fmt.Errorf("start the agent: %w", err)
	}
	for {
		if pid, err := unix.Wait4(-1, nil, 0, nil); err != nil && !errors.Is(err, unix.EINTR) || pid == agent.Process.Pid {
			return fmt.Errorf("the agent ended (%d, %w)", pid, err)
		}
	}
}

func mounts() error {
	for _, m := range []struct{ what, where string }{
		{"proc", "/proc"},
		{"sysfs", "/sys"},
		{"devtmpfs", "/dev"},
		{"devpts", "/dev/pts"},
		{"tmpfs", "/dev/shm"},
		{"tmpfs", "/tmp"},
	} {
		if err := os.MkdirAll(m.where, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.what, m.where, m.what, 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.where, err)
		}
	}
	return os.Symlink("/proc/self/fd", "/dev/fd")
}

// kernelOptions are the words name=value of the kernel's command line.
func kernelOptions() map[string]string {
	options := map[string]string{}
	line, _ := os.ReadFile("/proc/cmdline")
	for word := range strings.FieldsSeq(string(line)) {
		if name, value, ok := strings.Cut(word, "="); ok {
			options[name] = value
		}
	}
	return options
}

// diskLinks is where disks are found by their serial numbers, which a replugged disk keeps; its name in /dev
// changes while the old one is open.
const diskLinks = "/dev/rig"

// adoptDisk does for a block device what udev would: its group may use it, as the sanlock user needs, and it
// has a name by serial number.
func adoptDisk(name string) (string, error) {
	const groupDisk = 6
	path := filepath.Join("/dev", name)
	if err := errors.Join(os.Chown(path, 0, groupDisk), os.Chmod(path, 0o660)); err != nil {
		return "", err
	}
	serial, err := os.ReadFile(filepath.Join("/sys/block", name, "serial"))
	if err != nil || len(serial) == 0 {
		return "", err
	}
	if err := os.MkdirAll(diskLinks, 0o755); err != nil {
		return "", err
	}
	link := filepath.Join(diskLinks, strings.TrimSpace(string(serial)))
	if err := os.Remove(link); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	return link, os.Symlink(path, link)
}
