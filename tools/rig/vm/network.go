package vm

import (
	"crypto/rand"
	"fmt"
)

// networkGroup is a multicast group of this host's loopback interface for one rig: the machines' cable.
func networkGroup() string {
	var p [5]byte
	rand.Read(p[:])
	return fmt.Sprintf("239.%d.%d.%d:%d", p[0], p[1], p[2], 20000+int(p[3])<<4+int(p[4]))
}

// network is a machine's card on that cable. NetworkUp sets the address.
func network(group string, id int) []string {
	return []string{
		"-netdev", "socket,id=net0,mcast=" + group + ",localaddr=127.0.0.1",
		"-device", fmt.Sprintf("virtio-net-pci,netdev=net0,romfile=,mac=52:54:00:00:00:%02x", id),
	}
}

// NetworkUp is the shell command that gives a machine its address.
func NetworkUp(id int) string {
	return fmt.Sprintf("modprobe virtio_net && ip addr add 10.9.0.%d/24 dev eth0 && ip link set eth0 up", id)
}
