package main

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// watchDisks adopts the disks that are there and those that come later; say is told of each that comes or goes.
func watchDisks(say func(string)) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1})
	}
	if err != nil {
		say("disks that come later are not seen: " + err.Error())
	}
	present, errDir := os.ReadDir("/sys/block")
	if errDir != nil {
		say(errDir.Error())
	}
	for _, d := range present {
		came(d.Name(), say)
	}
	if err == nil {
		go followDisks(fd, say)
	}
}

// followDisks runs as long as the agent.
func followDisks(fd int, say func(string)) {
	message := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(fd, message, 0)
		if err != nil {
			if err == unix.EINTR || err == unix.ENOBUFS {
				continue
			}
			say("kernel events: " + err.Error())
			return
		}
		var action, subsystem, name string
		for field := range strings.SplitSeq(string(message[:n]), "\x00") {
			key, value, _ := strings.Cut(field, "=")
			switch key {
			case "ACTION":
				action = value
			case "SUBSYSTEM":
				subsystem = value
			case "DEVNAME":
				name = value
			}
		}
		switch {
		case subsystem != "block":
		case action == "add", action == "change" && strings.HasPrefix(name, mapperPrefix):
			came(name, say)
		case action == "remove":
			say("disk " + name + " went")
		}
	}
}

func came(name string, say func(string)) {
	if strings.HasPrefix(name, mapperPrefix) {
		if err := mapped(name); err != nil {
			say("mapping " + name + ": " + err.Error())
		}
		return
	}
	link, err := adoptDisk(name)
	switch {
	case err != nil:
		say("disk " + name + ": " + err.Error())
	case link != "":
		say("disk " + name + " is " + link)
	}
}
