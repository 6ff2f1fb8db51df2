package client

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tenurelock/tenure/leases/monotime"
	"github.com/tenurelock/tenure/watchdog/wdmdwire"
)

// Link is a lockspace's connection to the daemon.
type Link struct {
	cfg  Config
	conn net.Conn

	// mu orders what is sent. It is held while sending, which does not wait.
	mu         sync.Mutex
	registered bool
	ended      error // why nothing is sent any more
	torn       bool  // part of a message was sent, so no further one would be understood
}

var (
	errClosed = errors.New("the connection to wdmd was closed by ourselves")
	errTorn   = errors.New("only a part of a message was taken")
)

// Live tells the daemon until when the lockspace lives. The first time it says who we are and checks that the
// watchdog runs, which takes two seconds at most; after that it never waits. After an error nothing is sent any
// more: the daemon may have missed something, and the host is not protected, or will be reset.
func (l *Link) Live(renewed, expires monotime.Seconds) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended != nil {
		return l.ended
	}
	l.ended = l.live(renewed, expires)
	return l.ended
}

func (l *Link) live(renewed, expires monotime.Seconds) error {
	if !l.registered {
		if err := l.register(); err != nil {
			return err
		}
		l.registered = true
	}
	return l.send(wdmdwire.Message{
		Command: wdmdwire.TestLive, RenewalTime: uint64(renewed), ExpireTime: uint64(expires),
	})
}

// register says who we are, keeps the daemon from ending, and checks that the device runs. Nothing is expected of
// us until the first end is told, so an error here resets nobody.
func (l *Link) register() error {
	m := wdmdwire.Message{Command: wdmdwire.Register}
	m.SetName(l.cfg.Name)
	if err := l.send(m); err != nil {
		return err
	}
	if err := l.send(wdmdwire.Message{Command: wdmdwire.RefcountSet}); err != nil {
		return err
	}
	return l.verify()
}

// Close tells the daemon that nothing is expected any more, and disconnects. It may take half a second. An error
// means that the daemon may not know it, and will then reset this host.
func (l *Link) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if errors.Is(l.ended, errClosed) {
		return nil
	}
	l.ended = errClosed
	off := wdmdwire.Message{Command: wdmdwire.TestLive}
	err := l.send(off)
	if err != nil && errors.Is(err, syscall.EAGAIN) {
		time.Sleep(closePause)
		err = l.send(off)
	}
	if err == nil {
		err = l.send(wdmdwire.Message{Command: wdmdwire.RefcountClear})
	}
	return errors.Join(err, l.conn.Close())
}

// send sends without waiting.
func (l *Link) send(m wdmdwire.Message) error {
	err := errTorn
	if !l.torn {
		err = l.cfg.Send(l.conn, m.Append(nil))
	}
	if err != nil {
		l.torn = errors.Is(err, errTorn)
		return fmt.Errorf("tell wdmd %v: %w", m.Command, err)
	}
	return nil
}

// send puts a message into the socket at once, or not at all.
func send(c net.Conn, p []byte) error {
	s, ok := c.(syscall.Conn)
	if !ok {
		return fmt.Errorf("%T is no socket", c)
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return err
	}
	var n int
	var inner error
	err = raw.Control(func(fd uintptr) {
		for {
			n, inner = unix.SendmsgN(int(fd), p, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
			if !errors.Is(inner, unix.EINTR) {
				return
			}
		}
	})
	switch {
	case err != nil:
		return err
	case inner != nil:
		return inner
	case n != len(p):
		return fmt.Errorf("%w: %d of %d bytes", errTorn, n, len(p))
	}
	return nil
}
