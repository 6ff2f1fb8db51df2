package sanlockd

import (
	"fmt"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// process is the process that connected, held by a descriptor so that its number cannot come to mean another.
type process struct {
	pid int
	fd  int
}

// peerOf asks the kernel who is at the other end of a unix socket: the process that called connect.
func peerOf(conn net.Conn) (Process, error) {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, fmt.Errorf("peer of %T: only unix sockets know theirs", conn)
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return nil, err
	}
	p := &process{fd: -1}
	var asked error
	err = raw.Control(func(fd uintptr) {
		var cred *unix.Ucred
		if cred, asked = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); asked != nil {
			return
		}
		p.pid = int(cred.Pid)
		if p.fd, asked = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PEERPIDFD); asked != nil {
			// Kernels before 6.5. The process has just talked to us, so its number is still its own.
			p.fd, asked = unix.PidfdOpen(p.pid, 0)
		}
	})
	if err != nil {
		return nil, err
	}
	return p, asked
}

func (p *process) PID() int { return p.pid }

func (p *process) Signal(sig syscall.Signal) error { return unix.PidfdSendSignal(p.fd, sig, nil, 0) }

func (p *process) Close() error { return unix.Close(p.fd) }

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
