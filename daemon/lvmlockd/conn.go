package lvmlockd

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tenurelock/tenure/daemon/lvmlock"
	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// lastWords is how long an answer may take that is being written when the daemon ends.
const lastWords = time.Second

// conn is one client's connection. It asks one thing at a time; a second message waits, a third stays in the kernel.
type conn struct {
	server  *Server
	peer    *net.UnixConn
	id      uint32
	pid, fd int
	engine  *lvmlock.Client
	name    string // of the command, from the first request that has one; serve's own

	done    chan struct{} // closed when serve returned
	granted bool          // the last answer was the engine's; serve's own

	ctx    context.Context // of the request under way; ends when the client is gone
	cancel context.CancelFunc
}

// message is what receive hands to serve.
type message struct {
	body []byte
	err  error
}

// serve answers until the client is gone.
func (c *conn) serve() {
	defer c.server.forget(c)
	defer c.engine.Close()
	defer c.peer.Close()
	defer c.cancel()
	defer close(c.done)
	messages := make(chan message)
	c.server.busy.Go(func() { c.receive(messages) })
	for m := range messages {
		if m.err != nil {
			c.explainEnd(m.err)
			if c.granted && errors.Is(m.err, unix.ECONNRESET) {
				// The kernel says so when a peer goes away and has not read everything: it does not know what it holds.
				c.engine.Undelivered()
			}
			return
		}
		if c.goneAlready() {
			// Stock does not read what a client wrote before it went.
			c.server.log.Debug().Msgf("client recv %d gone before its request was read", c.id)
			return
		}
		if err := c.handle(m.body); err != nil {
			c.server.log.Debug().Err(err).Msgf("send cl %d fd %d error", c.id, c.fd)
			return
		}
	}
}

// end makes serve return soon.
func (c *conn) end() {
	c.cancel()
	_ = c.peer.SetReadDeadline(time.Now())
	_ = c.peer.SetWriteDeadline(time.Now().Add(lastWords))
}

// receive reads messages until the stream ends. A client that closes its connection while a request is under way is
// found gone here; one that only has no more to say still gets its answers.
func (c *conn) receive(to chan<- message) {
	defer close(to)
	r := lvmwire.NewReader(c.peer)
	for {
		body, err := r.Next()
		if err == nil {
			body = append([]byte(nil), body...)
		} else if c.goneAlready() {
			c.cancel()
		}
		select {
		case to <- message{body, err}:
		case <-c.done:
			return
		}
		if err != nil {
			return
		}
	}
}

func (c *conn) explainEnd(err error) {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, unix.ECONNRESET):
		c.server.log.Debug().Msgf("client recv %d ECONNRESET", c.id)
	case errors.Is(err, lvmwire.ErrTooLong):
		c.server.log.Error().Err(err).Msgf("client recv %d from process %d: closing its connection", c.id, c.pid)
	default:
		c.server.log.Debug().Err(err).Msgf("client recv %d buffer_read error", c.id)
	}
}

// handle answers one message. An error says that the answer could not be written.
func (c *conn) handle(body []byte) error {
	req, err := lvmwire.Decode(body)
	c.granted = false
	if err != nil {
		// Stock never answers this, nor a name that it does not know: the command would wait for ever.
		c.server.log.Error().Err(err).Msgf("client recv %d config_from_string error", c.id)
		return c.answer(lvmwire.Reply{Result: lvmwire.BadRequest})
	}
	if c.name == "" {
		c.name = req.Cmd
	}
	switch req.Op {
	case 0:
		c.server.log.Error().Msgf("client recv %d bad request name %q", c.id, clip(req.Name))
		return c.answer(lvmwire.Reply{Result: lvmwire.BadRequest})
	case lvmwire.OpHello:
		return c.answer(lvmwire.Reply{Op: lvmwire.OpHello})
	case lvmwire.OpQuit:
		return c.quit()
	case lvmwire.OpDumpInfo, lvmwire.OpDumpLog:
		return c.dump(&req)
	default:
		return c.pass(&req)
	}
}

// pass lets the engine answer, which may take as long as somebody else holds a lock.
func (c *conn) pass(req *lvmwire.Request) error {
	if req.PID != c.pid {
		c.server.log.Debug().Msgf("client recv bad message pid %d client %d", req.PID, c.pid)
	}
	c.logRequest(req)
	if c.server.isLeaving() {
		return c.answer(lvmwire.Reply{Op: req.Op, Type: req.Type, Mode: lvmwire.Invalid, Result: lvmwire.Canceled})
	}
	rep := c.engine.Do(c.ctx, *req)
	c.granted = true
	c.logReply(req, &rep)
	err := c.answer(rep)
	if err != nil {
		// That the client is gone by now does not count: it may have read its answer before.
		c.engine.Undelivered()
	}
	return err
}

func (c *conn) answer(r lvmwire.Reply) error {
	_, err := c.peer.Write(r.Append(nil, c.server.cfg.Dialect))
	return err
}

func (c *conn) quit() error {
	r := c.server.tryQuit()
	err := c.answer(lvmwire.Reply{Op: lvmwire.OpQuit, Result: r})
	if r == lvmwire.OK {
		c.server.log.Info().Msg("op quit")
		c.server.left()
	}
	return err
}

// goneAlready reports whether the peer closed the connection, in both directions.
func (c *conn) goneAlready() bool {
	gone := true
	raw, err := c.peer.SyscallConn()
	if err != nil {
		return gone
	}
	err = raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd)}}
		n, err := unix.Poll(p, 0)
		gone = err == nil && n > 0 && p[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0
	})
	return gone || err != nil
}

// whois returns a client's process and the descriptor of its connection.
func whois(peer *net.UnixConn) (pid, fd int, err error) {
	raw, err := peer.SyscallConn()
	if err != nil {
		return 0, 0, err
	}
	var credErr error
	err = raw.Control(func(f uintptr) {
		fd = int(f)
		cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil {
			credErr = err
			return
		}
		pid = int(cred.Pid)
	})
	return pid, fd, errors.Join(err, credErr)
}
