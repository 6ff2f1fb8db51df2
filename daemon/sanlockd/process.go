package sanlockd

import (
	"net"
	"syscall"

	"github.com/tenurelock/tenure/daemon/peer"
)

// peerOf asks the kernel who is at the other end of a unix socket: the process that called connect.
func peerOf(conn net.Conn) (Process, error) { return peer.Of(conn) }

// descriptor returns the number of a connection's descriptor, -1 if it has none.
func descriptor(conn net.Conn) int {
	number := -1
	if c, ok := conn.(syscall.Conn); ok {
		if raw, err := c.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) { number = int(fd) }) // a closed connection has none
		}
	}
	return number
}
