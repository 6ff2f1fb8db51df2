package sanlockd

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
)

const (
	acceptPause = 100 * time.Millisecond
	readAhead   = 4096 // bytes of requests that are taken from a connection before their turn
)

// request is one request, complete.
type request struct {
	sanlockwire.Header
	body []byte
	bad  error // the body is not one that the command can have
}

// conversation is what the two goroutines of a connection share. One reads, so that the end of the connection
// is noticed while a command runs; the other works. Only one of them looks at what was sent at a time:
// whether a header is a request may depend on the command before it (RESTRICT).
type conversation struct {
	c        *client
	in       *bufio.Reader
	requests chan request
	free     chan struct{} // holds a token while no request is being worked on
	dropped  int
}

// serve is the life of a connection.
func (s *Server) serve(c *client) {
	defer s.release(c)
	v := &conversation{
		c: c, in: bufio.NewReaderSize(c.conn, readAhead), requests: make(chan request),
		free: make(chan struct{}, 1),
	}
	v.free <- struct{}{}
	var reader sync.WaitGroup
	reader.Go(func() {
		defer close(v.requests)
		s.reading(v)
		s.died(c)
	})
	for r := range v.requests {
		if !s.work(v, r) {
			s.stopReading(c)
			c.gone()
			break
		}
		v.free <- struct{}{}
	}
	for range v.requests {
		// The reader may be about to hand over one more that nobody will work on.
		continue
	}
	reader.Wait()
	if c.listens != nil {
		s.release(c)
		s.serveListener(c.listens, v.in)
	}
}

// stopReading ends the wait for more requests.
func (s *Server) stopReading(c *client) {
	if c.listens == nil || c.listens.hushed() != nil {
		c.conn.Close()
	}
}

// work carries out one request and reports whether the connection goes on.
func (s *Server) work(v *conversation, r request) bool {
	s.setSuspended(v.c, true)
	defer s.setSuspended(v.c, false)
	return s.command(v.c, r)
}

func (s *Server) setSuspended(c *client, on bool) {
	s.mu.Lock()
	c.suspended = on
	s.mu.Unlock()
}

// reading hands over one request after the other until the connection ends.
func (s *Server) reading(v *conversation) {
	for {
		if _, err := v.in.Peek(1); err != nil {
			s.broke(v.c, err)
			return
		}
		select {
		case <-v.free:
		case <-v.c.ctx.Done():
			return
		}
		r, err := s.next(v)
		if err != nil {
			s.broke(v.c, err)
			return
		}
		select {
		case v.requests <- r:
		case <-s.root.Done():
			return
		}
	}
}

// next reads one request. Headers that are none are dropped, 32 bytes each, and so is everything on a
// connection that RESTRICT has closed to requests.
func (s *Server) next(v *conversation) (request, error) {
	for {
		if p, err := v.in.Peek(sanlockwire.HeaderSize); err != nil {
			s.cutShort(v.c, p, err)
			return request{}, err
		}
		h, err := sanlockwire.ReadHeader(v.in)
		var dropped *sanlockwire.DroppedError
		switch {
		case errors.As(err, &dropped):
			s.dropped(v, dropped.Header, strayText(dropped.Header))
			continue
		case err != nil:
			return request{}, err
		case s.isRestricted(v.c):
			s.dropped(v, h, " restrict all")
			continue
		case !served(h.Cmd):
			s.dropped(v, h, " not served")
			continue
		}
		body, err := sanlockwire.ReadBody(v.in, h)
		var refused *sanlockwire.RefusedError
		if err != nil && !errors.As(err, &refused) {
			return request{}, err
		}
		return request{h, body, err}, nil
	}
}

func (s *Server) isRestricted(c *client) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return c.restricted&sanlockwire.RestrictAll != 0
}

// strayText says in stock's words what is wrong with a header that is no request; nothing of it is wrong but
// the command if it returns "".
func strayText(h sanlockwire.Header) string {
	switch {
	case h.Magic != sanlockwire.Magic:
		return fmt.Sprintf(" magic %x vs %x", h.Magic, sanlockwire.Magic)
	case h.Version>>16 > sanlockwire.Protocol>>16:
		return fmt.Sprintf(" version %x", h.Version)
	}
	return ""
}

// dropped logs a header that is dropped.
func (s *Server) dropped(v *conversation, h sanlockwire.Header, why string) {
	v.dropped++
	c := v.c
	switch {
	case v.dropped > maxDropLogs:
	case why == "":
		s.log.Error().Msgf("client connection ci %d fd %d pid %d cmd %d unknown", c.slot, c.fd, c.pid.Load(), h.Cmd)
	default:
		s.log.Error().Msgf("client connection %d %d %d recv msg header rv %d cmd %d len %d%s", c.slot, c.fd,
			c.pid.Load(), sanlockwire.HeaderSize, h.Cmd, h.Length, why)
	}
}

// cutShort logs a connection that ends within a header.
func (s *Server) cutShort(c *client, p []byte, err error) {
	if len(p) == 0 || !errors.Is(err, io.EOF) {
		return
	}
	var raw [sanlockwire.HeaderSize]byte
	var h sanlockwire.Header
	copy(raw[:], p)
	if h.Decode(raw[:]) == nil {
		s.log.Error().Msgf("client connection %d %d %d recv msg header rv %d cmd %d len %d", c.slot, c.fd,
			c.pid.Load(), len(p), h.Cmd, h.Length)
	}
}

// broke logs an end of the connection that is not a plain close.
func (s *Server) broke(c *client, err error) {
	if errors.Is(err, io.EOF) || s.root.Err() != nil {
		return
	}
	s.debugClient("client connection %d %d %d recv: %v", c.slot, c.fd, c.pid.Load(), err)
}

// reply answers a request: a header with the result, and a body.
func (s *Server) reply(c *client, h sanlockwire.Header, result int32, data2 uint32, body []byte) {
	out := h.Reply(result, len(body))
	out.Data2 = data2
	s.send(c, append(out.Append(make([]byte, 0, sanlockwire.HeaderSize+len(body))), body...))
}

// send writes to the client. One who does not read holds up only its own connection; one who has gone needs
// no answer.
func (s *Server) send(c *client, p []byte) {
	if _, err := c.conn.Write(p); err != nil && s.root.Err() == nil {
		s.debugClient("client connection %d %d %d send: %v", c.slot, c.fd, c.pid.Load(), err)
	}
}

func (s *Server) debugClient(format string, args ...any) {
	if s.cfg.DebugClients != 0 {
		s.log.Debug().Msgf(format, args...)
	}
}

// debugCmd logs a line about a command unless its kind is left out (debug_cmd).
func (s *Server) debugCmd(cmd uint32, format string, args ...any) {
	if s.cfg.DebugCmds&(1<<cmd) != 0 {
		s.log.Debug().Msgf(format, args...)
	}
}

// resultOf is what a client is told. An operation that was given up has no number of its own in stock.
func resultOf(err error) int32 {
	if leases.KindOf(err) == leases.Aborted {
		return resultFailed
	}
	return sanlockwire.ResultOf(err)
}

// Results that stand for no kind.
const (
	resultFailed    = -1
	resultNoProcess = -3
	resultStale     = -116
	resultBusy      = -16
	resultNoSpace   = -28
)
