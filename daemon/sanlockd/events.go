package sanlockd

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/ondisk"
	"github.com/tenurelock/tenure/lockspace"
	"github.com/tenurelock/tenure/lockspace/hosts"
)

const (
	maxListeners = 32 // connections that hear the events of one lockspace
	// eventQueue is how many events may wait for one that does not read them; then it is hung up on.
	eventQueue = 64
	// resultManyListeners is stock's answer when a lockspace has as many listeners as it may have.
	resultManyListeners = -50
)

var (
	errSpaceName     = errors.New("a lockspace must be named")
	errManyListeners = errors.New("as many connections as there may be hear its events")
	errHoldsLeases   = errors.New("a registered connection cannot be given up for events")
	errHostNumber    = errors.New("there is no such host id")
)

// listener is a connection that hears the events of a lockspace. From its REG_EVENT on it takes no requests,
// and counts as no client.
type listener struct {
	sp   *space
	conn net.Conn
	out  chan []byte
	gone chan struct{} // closed with the connection
	once sync.Once
}

func (l *listener) close() {
	l.once.Do(func() {
		close(l.gone)
		_ = l.conn.Close() // whoever listened is told no more, whatever came of closing
	})
}

// doRegEvent makes the connection a listener (spec sanlock-daemon 2.12).
func (s *Server) doRegEvent(c *client, r request) {
	l, err := spaceOf(r)
	if err == nil {
		err = s.listen(c, l.Name)
	}
	s.debugCmd(r.Cmd, "cmd_reg_event fd %d rv %d%s", c.fd, resultOf(err), because(err))
	s.reply(c, r.Header, resultOf(err), r.Data2, nil)
}

func (s *Server) listen(c *client, name leases.Name) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	sp, err := s.eventSpace("register for the events of", name)
	switch {
	case err != nil:
		return err
	case c.proc != nil:
		return fail("register for the events of", name, leases.Invalid, errHoldsLeases)
	case len(sp.listeners) >= maxListeners:
		return &sanlockwire.Result{Number: resultManyListeners, Text: errManyListeners.Error()}
	}
	c.listens = &listener{sp: sp, conn: c.conn, out: make(chan []byte, eventQueue), gone: make(chan struct{})}
	sp.listeners = append(sp.listeners, c.listens)
	return nil
}

// eventSpace returns the active lockspace of a name. s.mu is held.
func (s *Server) eventSpace(op string, name leases.Name) (*space, error) {
	if name.IsEmpty() {
		return nil, fail(op, name, leases.Invalid, errSpaceName)
	}
	sp := s.active(name)
	if sp == nil {
		return nil, fail(op, name, leases.NotFound, errSpaceUnknown)
	}
	return sp, nil
}

// doEndEvent answers only: a listener that wants no more has said so on its own connection, which is read all
// the time.
func (s *Server) doEndEvent(c *client, r request) {
	l, err := spaceOf(r)
	if err == nil {
		s.mu.Lock()
		_, err = s.eventSpace("end the events of", l.Name)
		s.mu.Unlock()
	}
	s.debugCmd(r.Cmd, "cmd_end_event fd %d rv %d%s", c.fd, resultOf(err), because(err))
	s.reply(c, r.Header, resultOf(err), r.Data2, nil)
}

// serveListener is the rest of a connection's life: events go out until the lockspace is left, the other end
// closes or says that it wants no more, or does not read.
func (s *Server) serveListener(l *listener, in *bufio.Reader) {
	var writer sync.WaitGroup
	writer.Go(func() {
		defer l.close()
		for {
			select {
			case p := <-l.out:
				if _, err := l.conn.Write(p); err != nil {
					return
				}
			case <-l.gone:
				return
			}
		}
	})
	var word [sanlockwire.EventEndSize]byte
	for l.heard() == nil {
		_, err := io.ReadFull(in, word[:])
		if err != nil || binary.LittleEndian.Uint32(word[:]) == sanlockwire.EventEnd {
			break
		}
	}
	l.close()
	s.mu.Lock()
	l.sp.listeners = slices.DeleteFunc(l.sp.listeners, func(o *listener) bool { return o == l })
	s.mu.Unlock()
	writer.Wait()
}

// hushed interrupts whoever reads from the connection, so that somebody else can.
func (l *listener) hushed() error { return l.conn.SetReadDeadline(time.Unix(1, 0)) }

// heard undoes hushed.
func (l *listener) heard() error { return l.conn.SetReadDeadline(time.Time{}) }

// notice hears what a renewal has seen that others want from us. It must not wait.
func (s *Server) notice(sp *space, n hosts.Notice) {
	if n.Deliver {
		s.deliver(sp, n)
	}
	if n.Examine {
		s.examine(func(h *holding) bool { return h.home == sp })
	}
}

// deliver queues an event for every listener. Whoever does not read is hung up on.
func (s *Server) deliver(sp *space, n hosts.Notice) {
	p := sanlockwire.Event{
		HostEvent: sanlockwire.HostEvent{
			HostID: sp.wire.HostID, Generation: n.Event.Generation, Event: n.Event.Number, Data: n.Event.Data,
		},
		FromHostID: uint64(n.From.Host), FromGeneration: uint64(n.From.Generation),
	}.Append(nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range sp.listeners {
		select {
		case l.out <- p:
		default:
			l.close()
		}
	}
}

// doSetEvent shows an event to another host with our renewals.
func (s *Server) doSetEvent(c *client, r request) {
	l, err := spaceOf(r)
	var e sanlockwire.HostEvent
	if err == nil {
		err = e.Decode(r.body[sanlockwire.LockspaceSize:])
	}
	if err == nil {
		err = s.setEvent(l.Name, e, r.Flags)
	}
	s.debugCmd(r.Cmd, "cmd_set_event %d,%d %v host %d event %d done %d%s", c.slot, c.fd, l.Name, e.HostID, e.Event,
		resultOf(err), because(err))
	s.reply(c, r.Header, resultOf(err), 0, nil)
}

func (s *Server) setEvent(name leases.Name, e sanlockwire.HostEvent, flags uint32) error {
	if e.HostID == 0 || e.HostID > ondisk.MaxHosts {
		return fail("set an event in", name, leases.Invalid, errHostNumber)
	}
	s.mu.Lock()
	sp, err := s.eventSpace("set an event in", name)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	return sp.ls.SetEvent(leases.HostID(e.HostID),
		hosts.Event{Generation: e.Generation, Number: e.Event, Data: e.Data}, lockspace.EventFlags(flags))
}
