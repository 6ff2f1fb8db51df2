// Package client asks a running sanlock daemon for leases.
//
// It speaks to Tenure's daemon and to stock's alike. A process that wants leases dials a connection,
// registers it and keeps it open: whoever holds the connection holds the leases, and when its last copy is
// closed the daemon takes them back. Everything else goes over connections of its own, one request each, as
// stock's library does.
package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tenurelock/tenure/daemon/sanlockwire"
)

// DefaultRunDir is where the daemon's socket lies unless SANLOCK_RUN_DIR says otherwise.
const DefaultRunDir = "/run/sanlock"

// SocketName is the socket in the run directory.
const SocketName = "sanlock.sock"

// Self as the pid of a call means the process that registered the connection.
const Self = sanlockwire.Self

// RunDir returns the environment's SANLOCK_RUN_DIR, or DefaultRunDir.
func RunDir() string {
	if dir := os.Getenv("SANLOCK_RUN_DIR"); dir != "" {
		return dir
	}
	return DefaultRunDir
}

// Conn is a connection to the daemon. One call at a time: it is not safe for concurrent use. After a call
// that was cut off by its context, the connection is out of step and every further call returns an error.
type Conn struct {
	c net.Conn
	// broken is why no answer can be trusted any more.
	broken error
}

// backlogPause is how long Dial waits while the daemon's queue of connections is full.
const backlogPause = 10 * time.Millisecond

// Dial connects to the daemon of a run directory; "" means RunDir. While the daemon's queue of connections is
// full it tries again until ctx ends. The errors of the system are in the chain: ENOENT and ECONNREFUSED mean
// that no daemon runs, EACCES that this user may not ask it.
func Dial(ctx context.Context, runDir string) (*Conn, error) {
	if runDir == "" {
		runDir = RunDir()
	}
	path := filepath.Join(runDir, SocketName)
	var d net.Dialer
	for {
		c, err := d.DialContext(ctx, "unix", path)
		if err == nil {
			return Over(c), nil
		}
		if !errors.Is(err, syscall.EAGAIN) {
			return nil, fmt.Errorf("ask sanlock: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("ask sanlock at %s: its queue is full: %w", path, ctx.Err())
		case <-time.After(backlogPause):
		}
	}
}

// Over returns the connection to a daemon that c leads to, however it was made.
func Over(c net.Conn) *Conn { return &Conn{c: c} }

// Do dials a connection of its own for f and closes it.
func Do(ctx context.Context, runDir string, f func(*Conn) error) error {
	c, err := Dial(ctx, runDir)
	if err != nil {
		return err
	}
	err = f(c)
	if closed := c.Close(); err == nil {
		err = closed
	}
	return err
}

// Close closes the connection. If it is registered and this was its last copy, its leases are released.
func (c *Conn) Close() error { return c.c.Close() }

// Inherit returns a descriptor of the connection that stays open in the program that replaces this one by
// exec and in those that it starts: the leases live as long as any copy is open. It cannot be closed by this
// package.
func (c *Conn) Inherit() (fd int, err error) {
	u, ok := c.c.(*net.UnixConn)
	if !ok {
		return 0, fmt.Errorf("inherit a connection of type %T: it has no descriptor", c.c)
	}
	f, err := u.File()
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return unix.FcntlInt(f.Fd(), unix.F_DUPFD, firstInherited)
}

// firstInherited keeps an inherited descriptor away from the standard ones.
const firstInherited = 3

// errStep is what follows a call that was cut off.
var errStep = errors.New("connection is out of step after a call that was cut off; dial a new one")

// during runs f with ctx's end as the connection's deadline. Whatever goes wrong in f breaks the connection.
func (c *Conn) during(ctx context.Context, what string, f func() error) error {
	if c.broken != nil {
		return fmt.Errorf("%s: %w", what, c.broken)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	stop := context.AfterFunc(ctx, func() {
		// A deadline in the past wakes the call; if that fails, so does the call, for the same reason.
		_ = c.c.SetDeadline(time.Unix(1, 0))
	})
	err := f()
	stopped := stop()
	if err == nil {
		if !stopped {
			c.broken = errStep // the deadline may strike during the next call
		}
		return nil
	}
	c.broken = errStep
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return fmt.Errorf("%s: %w", what, err)
}

// request is one request and what is done with its answer.
type request struct {
	cmd, flags, data, data2 uint32
	body                    []byte
	// understate leaves the body out of the header's length, and overstate adds to it, where stock's library
	// does.
	understate bool
	overstate  int
	// answer reads what follows the reply's header, even if the result is negative.
	answer func(h sanlockwire.Header) error
}

// exchange sends a request and reads the answer. The result is the reply's when err is nil; a negative one is
// no error here.
func (c *Conn) exchange(ctx context.Context, r request) (h sanlockwire.Header, err error) {
	cmd, _ := sanlockwire.CommandOf(r.cmd)
	err = c.during(ctx, cmd.Name, func() error {
		n := len(r.body) + r.overstate
		if r.understate {
			n = 0
		}
		out := sanlockwire.NewHeader(r.cmd, r.flags, n, r.data, r.data2)
		p := append(out.Append(make([]byte, 0, sanlockwire.HeaderSize+len(r.body))), r.body...)
		if _, err := c.c.Write(p); err != nil {
			return err
		}
		if cmd.Silent {
			return nil
		}
		if h, err = c.header(); err != nil {
			return err
		}
		if r.answer == nil {
			return nil
		}
		return r.answer(h)
	})
	return h, err
}

// result does an exchange whose negative result is an error.
func (c *Conn) result(ctx context.Context, r request) (int, error) {
	h, err := c.exchange(ctx, r)
	if err != nil {
		return 0, err
	}
	if err := sanlockwire.ErrorOf(h.Result()); err != nil {
		cmd, _ := sanlockwire.CommandOf(r.cmd)
		return 0, fmt.Errorf("%s: %w", cmd.Name, err)
	}
	return int(h.Result()), nil
}

// ErrHungUp says that the daemon closed the connection instead of answering.
var ErrHungUp = errors.New("the daemon hung up without an answer")

func (c *Conn) header() (sanlockwire.Header, error) {
	var h sanlockwire.Header
	p, err := c.read(sanlockwire.HeaderSize)
	if err != nil {
		return h, err
	}
	if err := h.Decode(p); err != nil {
		return h, err
	}
	if h.Magic != sanlockwire.Magic {
		return h, fmt.Errorf("the answer has magic %#x, not sanlock's", h.Magic)
	}
	return h, nil
}

// read returns exactly n bytes.
func (c *Conn) read(n int) ([]byte, error) {
	p := make([]byte, n)
	_, err := io.ReadFull(c.c, p)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = ErrHungUp
	}
	return p, err
}

// tail returns what h says follows it, at most limit bytes.
func (c *Conn) tail(h sanlockwire.Header, limit int) ([]byte, error) {
	n := int64(h.Length) - sanlockwire.HeaderSize
	if n <= 0 {
		return nil, nil
	}
	if n > int64(limit) {
		return nil, fmt.Errorf("an answer of %d bytes; at most %d are possible", n, limit)
	}
	return c.read(int(n))
}
