package lvmlockd

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tenurelock/tenure/daemon/lvmwire"
)

const (
	// dumpSocket is where lvmlockctl waits for a dump: an abstract name.
	dumpSocket = "lvmlockd-dump.sock"
	// maxDatagram is how much of a dump goes into one datagram, bytes.
	maxDatagram = 1 << 16
	// dumpPause and dumpPauses are how long and how often a dump waits for a receiver that is slow.
	dumpPause  = time.Millisecond
	dumpPauses = 500
)

// dump answers first, with the length of the text, and sends the text after that to a socket of its own (spec lvmlockd
// 3.11.2).
func (c *conn) dump(req *lvmwire.Request) error {
	s := c.server
	c.logRequest(req)
	var text []byte
	if req.Op == lvmwire.OpDumpInfo {
		text = s.cfg.Engine.Info(s.cfg.Dialect)
	} else {
		text = s.cfg.LogText()
	}
	rep := lvmwire.Reply{Op: req.Op, DumpLen: len(text)}
	if len(text) > maxDump {
		rep.Result, rep.DumpLen = lvmwire.NoSpace, 0
	}
	c.logReply(req, &rep)
	if err := c.answer(rep); err != nil || rep.Result != lvmwire.OK {
		return err
	}
	s.dumping <- struct{}{}
	defer func() { <-s.dumping }()
	if err := c.sendDump(text); err != nil {
		s.log.Debug().Err(err).Msg("send_dump_buf")
	}
	return nil
}

// sendDump gives up on a receiver that goes away or does not read.
func (c *conn) sendDump(text []byte) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(fd)
	to := &unix.SockaddrUnix{Name: "@" + c.server.cfg.DumpSocket}
	pauses := 0
	for len(text) > 0 {
		piece := text[:min(len(text), maxDatagram)]
		err := unix.Sendto(fd, piece, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, to)
		switch {
		case err == nil:
			text = text[len(piece):]
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN) && pauses < dumpPauses && c.ctx.Err() == nil:
			pauses++
			pause(c.ctx, dumpPause)
		default:
			return fmt.Errorf("send to %s, %d bytes left: %w", c.server.cfg.DumpSocket, len(text), err)
		}
	}
	return nil
}
