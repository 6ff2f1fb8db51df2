package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/tenurelock/tenure/leases/monotime"
	"github.com/tenurelock/tenure/watchdog"
	"github.com/tenurelock/tenure/watchdog/wdmdwire"
)

// Waits.
const (
	answerWait = 2 * time.Second        // for an answer; an older daemon never answers OPEN_WATCHDOG
	closePause = 500 * time.Millisecond // before the daemon is told a second time that nothing is expected
)

// fresh is how old a daemon's last pet may be, in its own test intervals: an older one means that its device is
// not open.
const (
	fresh         = 2
	usualInterval = 10 // seconds
)

// Config says whom to speak to, and for whom. Zero values of the optional part mean the real thing.
type Config struct {
	Name string        // of the client, cut to 127 bytes
	Fire time.Duration // 0 means watchdog.DefaultFire; the daemon must have the same

	Socket string // "" means wdmdwire.SocketPath
	Clock  *monotime.Clock
	Dial   func(ctx context.Context) (net.Conn, error)
	// Send sends without waiting. nil: the socket's own way.
	Send func(c net.Conn, p []byte) error
}

func (c *Config) adapt() {
	if c.Fire == 0 {
		c.Fire = watchdog.DefaultFire
	}
	if c.Clock == nil {
		system := monotime.System()
		c.Clock = &system
	}
	if c.Dial == nil {
		path := c.Socket
		if path == "" {
			path = wdmdwire.SocketPath
		}
		c.Dial = func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		}
	}
	if c.Send == nil {
		c.Send = send
	}
}

// Dial connects to the daemon and makes it open the watchdog, if it is one that waits to be asked. Nothing is
// expected of the client before the first Live. It takes a few seconds at most.
func Dial(ctx context.Context, cfg Config) (*Link, error) {
	cfg.adapt()
	l := &Link{cfg: cfg}
	if err := l.connect(ctx); err != nil {
		return nil, err
	}
	err := l.open()
	var slow net.Error
	if errors.As(err, &slow) && slow.Timeout() {
		// An older daemon: it has the device open, or had none to start with.
		l.conn.Close()
		if err := l.connect(ctx); err != nil {
			return nil, err
		}
		err = nil
	}
	if err != nil {
		l.conn.Close()
		return nil, err
	}
	return l, nil
}

func (l *Link) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	c, err := l.cfg.Dial(ctx)
	if err != nil {
		return fmt.Errorf("connect to wdmd: %w; start wdmd, or run without a watchdog and without protection (-w 0)", err)
	}
	l.conn = c
	return nil
}

// open asks the daemon to open the device.
func (l *Link) open() error {
	want := uint32(l.cfg.Fire / time.Second)
	m, err := l.roundTrip(wdmdwire.Message{Command: wdmdwire.OpenWatchdog, FireTimeout: want})
	switch {
	case err != nil:
		return err
	case m.FireTimeout == 0:
		return errors.New("wdmd could not open a watchdog; its log says why")
	case m.FireTimeout != want:
		return fmt.Errorf("wdmd's watchdog fires after %d s, this host promises %d s to others", m.FireTimeout, want)
	}
	return nil
}

// verify checks that the device runs, with the timeout that other hosts count on.
func (l *Link) verify() error {
	m, err := l.roundTrip(wdmdwire.Message{Command: wdmdwire.Status})
	if err != nil {
		return err
	}
	if want := uint32(l.cfg.Fire / time.Second); m.FireTimeout != want {
		return fmt.Errorf("wdmd's watchdog fires after %d s, this host promises %d s to others", m.FireTimeout, want)
	}
	age := int64(l.cfg.Clock.Now().Seconds()) - int64(m.LastKeepalive)
	// Between tests that fail the interval is a second, so the usual one counts at least.
	if age > fresh*int64(max(m.TestInterval, usualInterval)) || age < -1 {
		return fmt.Errorf("wdmd has not petted its watchdog for %d s: its device is not open, and this host is not protected", age)
	}
	return nil
}

// roundTrip sends a message and waits for its answer.
func (l *Link) roundTrip(m wdmdwire.Message) (wdmdwire.Message, error) {
	fail := func(err error) (wdmdwire.Message, error) {
		return wdmdwire.Message{}, fmt.Errorf("ask wdmd %v: %w", m.Command, err)
	}
	if err := l.conn.SetDeadline(time.Now().Add(answerWait)); err != nil {
		return fail(err)
	}
	if _, err := l.conn.Write(m.Append(nil)); err != nil {
		return fail(err)
	}
	var p [wdmdwire.Size]byte
	if _, err := io.ReadFull(l.conn, p[:]); err != nil {
		return fail(err)
	}
	if err := l.conn.SetDeadline(time.Time{}); err != nil {
		return fail(err)
	}
	answer, err := wdmdwire.Decode(p[:])
	if err == nil && answer.Command != m.Command {
		err = fmt.Errorf("the answer is to %v", answer.Command)
	}
	if err != nil {
		return fail(err)
	}
	return answer, nil
}
