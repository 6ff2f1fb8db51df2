// Package peer knows the process at the other end of a unix socket, and when it dies.
//
// The kernel says who connected; a number alone may have gone to another process by the time it is used. So the
// process is held by a pidfd, taken from the socket where the kernel can (6.5) and else opened at once, and
// signals go to that one process or to nobody.
package peer

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Process is the process that connected a socket: it stays that one when the socket is passed on.
type Process struct {
	pid, uid, gid int
	pidfd         *os.File // nil: it had died before it could be held

	once sync.Once
	dead chan struct{}
	wait sync.WaitGroup
}

// Of returns the process that connected c, a unix socket. A process that is dead already is no error. The
// caller closes it.
func Of(c net.Conn) (*Process, error) {
	s, ok := c.(syscall.Conn)
	if !ok {
		return nil, fmt.Errorf("peer of %T: not a socket", c)
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("peer: %w", err)
	}
	var p *Process
	var inner error
	if err := raw.Control(func(fd uintptr) { p, inner = of(int(fd)) }); err != nil {
		return nil, fmt.Errorf("peer: %w", err)
	}
	return p, inner
}

func of(socket int) (*Process, error) {
	who, err := unix.GetsockoptUcred(socket, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return nil, fmt.Errorf("peer: SO_PEERCRED: %w", err)
	}
	p := &Process{pid: int(who.Pid), uid: int(who.Uid), gid: int(who.Gid), dead: make(chan struct{})}
	if p.pid <= 0 {
		return nil, errors.New("peer: its process is in another pid namespace; run the daemon in the host's")
	}
	fd, err := pidfd(socket, p.pid)
	switch {
	case errors.Is(err, unix.ESRCH):
		close(p.dead)
		return p, nil
	case err != nil:
		return nil, fmt.Errorf("peer: hold process %d: %w", p.pid, err)
	}
	// Non-blocking, so that waiting for the process takes a goroutine and no thread.
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(fmt.Errorf("peer: hold process %d: %w", p.pid, err), unix.Close(fd))
	}
	p.pidfd = os.NewFile(uintptr(fd), fmt.Sprintf("pidfd of %d", p.pid))
	return p, nil
}

// pidfd returns a close-on-exec descriptor of the socket's peer, or ESRCH when it is dead and gone.
func pidfd(socket, pid int) (int, error) {
	fd, err := unix.GetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_PEERPIDFD)
	switch {
	case err == nil:
		return fd, nil
	case errors.Is(err, unix.ESRCH), errors.Is(err, unix.ENODATA), errors.Is(err, unix.EINVAL):
		return -1, unix.ESRCH // reaped, in the words of several kernels
	case !errors.Is(err, unix.ENOPROTOOPT):
		return -1, err
	}
	return unix.PidfdOpen(pid, 0)
}

// PID returns the number that the process had when it connected.
func (p *Process) PID() int { return p.pid }

// UID returns the user that the process had when it connected.
func (p *Process) UID() int { return p.uid }

// GID returns the group that the process had when it connected.
func (p *Process) GID() int { return p.gid }

// Signal sends a signal to the process and never to another one. The error is ESRCH when it is dead.
func (p *Process) Signal(sig syscall.Signal) error {
	err := p.Hold(func(pidfd int) error { return unix.PidfdSendSignal(pidfd, sig, nil, 0) })
	if err != nil {
		return fmt.Errorf("send %v to process %d: %w", sig, p.pid, err)
	}
	return nil
}

// Hold lends the process's pidfd to use, which must not block. The error is that of use, or ESRCH when the
// process had died before it could be held.
func (p *Process) Hold(use func(pidfd int) error) error {
	if p.pidfd == nil {
		return unix.ESRCH
	}
	raw, err := p.pidfd.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = raw.Control(func(fd uintptr) { inner = use(int(fd)) })
	return errors.Join(err, inner)
}

// Dead returns a channel that is closed when the process has died, or when p is closed. The first call starts to
// wait for that.
func (p *Process) Dead() <-chan struct{} {
	if p.pidfd == nil {
		return p.dead
	}
	p.once.Do(func() {
		p.wait.Go(func() {
			defer close(p.dead)
			raw, err := p.pidfd.SyscallConn()
			if err != nil {
				return
			}
			// The error is that p was closed, which ends the waiting as well.
			_ = raw.Read(func(fd uintptr) bool { return exited(int(fd)) })
		})
	})
	return p.dead
}

// exited reports whether the process of a pidfd has ended.
func exited(fd int) bool {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		if !errors.Is(err, unix.EINTR) {
			return err == nil && n > 0
		}
	}
}

// Close lets go of the process and ends the wait of Dead.
func (p *Process) Close() error {
	if p.pidfd == nil {
		return nil
	}
	err := p.pidfd.Close()
	p.wait.Wait()
	return err
}
