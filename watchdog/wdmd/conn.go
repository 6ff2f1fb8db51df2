package wdmd

import (
	"io"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tenurelock/tenure/leases/monotime"
	"github.com/tenurelock/tenure/watchdog"
	"github.com/tenurelock/tenure/watchdog/mux"
	"github.com/tenurelock/tenure/watchdog/wdmdwire"
)

// serve reads one connection to its end. Everything that was sent before the end counts before it.
func (s *Server) serve(c net.Conn) {
	defer func() {
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
		c.Close()
	}()
	hello := s.ask(ask{conn: c})
	if !hello.ok {
		return
	}
	var p [wdmdwire.Size]byte
	mute := false
	for {
		if _, err := io.ReadFull(c, p[:]); err != nil {
			break
		}
		m, err := wdmdwire.Decode(p[:])
		if err != nil {
			break
		}
		a := s.ask(ask{id: hello.id, message: m})
		if a.bytes == nil || mute {
			continue
		}
		// A client that does not read may still be alive and well, so what it sends is heard all the same.
		_ = c.SetWriteDeadline(time.Now().Add(answerWait))
		if _, err := c.Write(a.bytes); err != nil {
			mute = true
		}
	}
	s.ask(ask{id: hello.id, gone: true})
}

// ask puts something to the owner of everything. After the end nothing is answered.
func (s *Server) ask(a ask) answer {
	a.answer = make(chan answer, 1)
	select {
	case s.asks <- a:
	case <-s.ended:
		return answer{}
	}
	return <-a.answer
}

// handle is what the owner does for a connection.
func (s *Server) handle(a ask) {
	var out answer
	switch {
	case a.conn != nil:
		out.id, out.ok = s.connect(a.conn)
	case a.gone:
		s.gone(a.id)
	default:
		out.bytes = s.message(a.id, &a.message)
	}
	a.answer <- out
}

func (s *Server) connect(c net.Conn) (mux.ID, bool) {
	if s.mux.Len() >= maxClients {
		s.log.Error().Msgf("%d clients, no more are taken", s.mux.Len())
		return 0, false
	}
	pid, fd := s.cfg.Peer(c)
	return s.mux.Connect(pid, fd), true
}

func (s *Server) gone(id mux.ID) {
	c := s.mux.Client(id)
	if s.mux.Gone(id) {
		s.log.Error().Msgf("client dead ci %d fd %d pid %d renewal %d expire %d %s", c.ID, c.FD, c.PID,
			c.Renewed, c.Expires, c.Name)
	}
	s.rest()
}

// rest stops the device when nobody needs it.
func (s *Server) rest() {
	if s.mux.Used() || s.cfg.Scripts != nil || s.held || s.keeper.resetting() || s.keeper.stuck {
		return
	}
	if s.keeper.counting() {
		s.keeper.disarm()
	}
}

// message does what a message asks for and returns the answer, nil if it has none.
func (s *Server) message(id mux.ID, m *wdmdwire.Message) []byte {
	switch m.Command {
	case wdmdwire.Register:
		s.mux.Name(id, m.Text())
		s.rely(id)
	case wdmdwire.RefcountSet:
		s.mux.Ref(id, true)
		s.rely(id)
	case wdmdwire.RefcountClear:
		s.mux.Ref(id, false)
	case wdmdwire.TestLive:
		s.mux.Live(id, monotime.Seconds(m.RenewalTime), monotime.Seconds(m.ExpireTime))
		s.log.Debug().Msgf("test_live ci %d renewal %d expire %d", id, m.RenewalTime, m.ExpireTime)
		if m.ExpireTime != 0 {
			s.rely(id)
		}
	case wdmdwire.Status:
		m.TestInterval = uint32(s.interval() / time.Second)
		m.FireTimeout = uint32(s.keeper.protected() / time.Second)
		m.LastKeepalive = uint64(s.keeper.petted.Seconds())
		return m.Append(nil)
	case wdmdwire.DumpDebug:
		s.mux.Name(id, "dump")
		return s.dump()
	case wdmdwire.OpenWatchdog:
		m.FireTimeout = uint32(s.open(id, m.FireTimeout) / time.Second)
		return m.Append(nil)
	}
	return nil
}

// interval is the time between two tests as clients are told it: that of now, shorter after a failure.
func (s *Server) interval() time.Duration {
	if s.held || s.keeper.failing {
		return mux.Recovery
	}
	return s.mux.Interval()
}

// rely arms the device for a client that does not say with what timeout.
func (s *Server) rely(id mux.ID) {
	s.mux.Open(id)
	if !s.keeper.counting() {
		s.arm(watchdog.DefaultFire)
	}
}

// open arms the device with a client's timeout in seconds and returns the one in force.
func (s *Server) open(id mux.ID, seconds uint32) time.Duration {
	if seconds == 0 {
		return 0
	}
	got := s.arm(time.Duration(seconds) * time.Second)
	if got != 0 {
		s.mux.Open(id)
	}
	return got
}

// arm arms the device, if it is not.
func (s *Server) arm(fire time.Duration) time.Duration {
	got := s.keeper.arm(fire)
	if got != 0 {
		s.mux.SetFire(got)
	}
	return got
}

// peerOf asks the kernel who is at the other end of a unix socket.
func peerOf(c net.Conn) (pid, fd int) {
	pid, fd = -1, -1
	u, ok := c.(*net.UnixConn)
	if !ok {
		return pid, fd
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return pid, fd
	}
	_ = raw.Control(func(n uintptr) {
		fd = int(n)
		if who, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(who.Pid)
		}
	})
	return pid, fd
}
