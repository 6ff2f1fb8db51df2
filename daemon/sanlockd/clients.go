package sanlockd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync/atomic"

	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/monotime"
)

// firstSlot is the first slot of a connection: stock's helper and listener have the ones before it, and
// status lists them.
const firstSlot = 2

// nobody is the pid of a connection that is not registered, as status shows it.
const nobody = -1

// client is one connection.
type client struct {
	slot int
	fd   int // as status shows it
	conn net.Conn

	ctx  context.Context // ends when the registration does
	gone context.CancelFunc
	pid  atomic.Int32 // nobody until registered

	// Guarded by Server.mu.
	proc       Process // nil until registered
	dead       bool    // the other end has closed
	needFree   bool    // its goroutines have ended, a command by pid has not
	name       string
	restricted uint32
	kill       sanlockwire.Killpath
	flags      uint32 // status flags: killpathPID, runpathSent
	active     uint32 // command that works on this client's leases
	last       uint32 // the last command that it sent
	tokens     []*token
	killCount  int
	killLast   monotime.Seconds
	suspended  bool // a request of it is being worked on

	// listens is what the connection has become by REG_EVENT. Only the goroutine that works on requests sets and
	// uses it.
	listens *listener
}

// The client flags that status shows.
const (
	killpathPID = 1
	runpathSent = 2
)

// String prints slot, descriptor and pid as log lines begin with.
func (c *client) String() string { return fmt.Sprintf("%d,%d,%d", c.slot, c.fd, c.pid.Load()) }

// connect gives a new connection the lowest free slot and serves it.
func (s *Server) connect(conn net.Conn) {
	c := &client{conn: conn, fd: s.cfg.FD(conn)}
	c.pid.Store(nobody)
	c.ctx, c.gone = context.WithCancel(s.root)
	s.mu.Lock()
	free := slices.Index(s.clients[firstSlot:], nil)
	switch {
	case free >= 0:
		c.slot = free + firstSlot
		s.clients[c.slot] = c
	case len(s.clients) < maxClients:
		c.slot = len(s.clients)
		s.clients = append(s.clients, c)
	}
	s.mu.Unlock()
	if c.slot == 0 {
		s.log.Error().Int("limit", maxClients).Msg("connection refused, too many clients")
		c.gone()
		conn.Close()
		return
	}
	s.busy.Go(func() { s.serve(c) })
}

// hangUp closes every connection, at the end.
func (s *Server) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.clients {
		if c != nil {
			c.conn.Close()
		}
	}
}

// register makes the connection one that can own leases. A second time changes nothing: what the client
// holds stays (stock loses it, spec sanlock-daemon 1.2.6).
func (s *Server) register(c *client) {
	s.mu.Lock()
	known := c.proc != nil
	s.mu.Unlock()
	if known {
		return
	}
	p, err := s.cfg.Peer(c.conn)
	if err != nil || p.PID() <= 0 {
		// Without knowing whom to stop we cannot give leases; its commands will be refused with EBUSY.
		s.log.Error().Err(err).Msgf("cmd_register ci %d fd %d: unknown process", c.slot, c.fd)
		if err == nil {
			_ = p.Close() // it holds nothing yet
		}
		return
	}
	s.mu.Lock()
	c.proc, c.name = p, fmt.Sprint(p.PID())
	c.pid.Store(int32(p.PID()))
	s.mu.Unlock()
	s.debugClient("cmd_register %v", c)
}

var (
	errNoSuchProcess = errors.New("no registered connection of that process")
	errNotRegistered = errors.New("the connection is not registered")
	errBeingStopped  = errors.New("the process is being stopped because its lockspace fails or is removed")
	errBusyClient    = errors.New("another command works on the leases of that process")
)

// target finds whose leases a command is about and marks it busy with the command (spec sanlock-daemon 1.8).
// done must be called at the end of the command.
func (s *Server) target(caller *client, h sanlockwire.Header) (c *client, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c = caller
	if h.Data2 != sanlockwire.Self {
		if c = s.byPID(int(h.Data2)); c == nil {
			return nil, &sanlockwire.Result{Number: resultNoProcess, Text: errNoSuchProcess.Error()}
		}
	}
	refuse := func(why error) (*client, error) { return nil, fail("start", leases.Name{}, leases.Busy, why) }
	switch {
	case c.proc == nil, c.dead, c.needFree:
		return refuse(errNotRegistered)
	case h.Cmd == sanlockwire.CmdAcquire && c.killCount > 0:
		return refuse(errBeingStopped)
	case c.active != 0:
		return refuse(errBusyClient)
	}
	c.active = h.Cmd
	return c, nil
}

// byPID returns the registered connection of a process, that in the lowest slot. s.mu is held.
func (s *Server) byPID(pid int) *client {
	for _, c := range s.clients {
		if c != nil && c.proc != nil && !c.dead && int(c.pid.Load()) == pid {
			return c
		}
	}
	return nil
}

// done ends a command on c's leases. A client that died meanwhile is buried now.
func (s *Server) done(c *client) {
	s.mu.Lock()
	c.active = 0
	dead := c.dead
	s.mu.Unlock()
	if dead {
		s.bury(c)
	}
}

// died is called once, when the other end has closed. Whatever waits on the client's behalf is given up.
func (s *Server) died(c *client) {
	c.gone()
	s.mu.Lock()
	registered, active := c.proc != nil, c.active
	c.dead = true
	suspended := c.suspended
	kills := c.killCount
	s.mu.Unlock()
	if !registered {
		return
	}
	s.log.Debug().Msgf("client_pid_dead %v cmd_active %d suspend %d", c, active, bit(suspended))
	if kills > 0 {
		s.log.Error().Msgf("dead %d ci %d count %d", c.pid.Load(), c.slot, kills)
	}
	if active == 0 {
		s.bury(c)
	}
}

// release frees the connection's slot when its goroutines have ended.
func (s *Server) release(c *client) {
	if c.listens == nil {
		c.conn.Close()
	}
	s.mu.Lock()
	c.needFree = true
	s.mu.Unlock()
	s.bury(c)
}

// bury gives back what a dead client held, and frees its slot once nothing works for it any more. It may be
// called again.
func (s *Server) bury(c *client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.active != 0 || !c.dead && !c.needFree {
		return
	}
	for _, t := range c.tokens {
		if t != nil {
			s.bequeath(t)
		}
	}
	c.tokens = nil
	s.tell()
	if !c.needFree || s.clients[c.slot] != c {
		return
	}
	s.clients[c.slot] = nil
	if c.proc != nil {
		_ = c.proc.Close() // a descriptor of ours; nothing depends on how closing it went
	}
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}
