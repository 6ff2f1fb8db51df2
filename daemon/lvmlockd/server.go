package lvmlockd

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/tenurelock/tenure/daemon/lvmlock"
	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// Bounds of what clients may take. Only root can connect; these keep one that runs wild from being all there is.
const (
	maxConnections = 4096
	// maxPerProcess is how many connections one process may have. LVM commands have one, lvmdbusd a few.
	maxPerProcess = 256
	// maxDump is how long the text of a dump may be, bytes.
	maxDump = 4 << 20
	// acceptPause is how long to wait when there are no descriptors left.
	acceptPause = 100 * time.Millisecond
)

// ServerConfig says what a Server works with.
type ServerConfig struct {
	Engine  *lvmlock.Engine
	Dialect lvmwire.Dialect // 0 means Dialect40
	Log     zerolog.Logger
	// LogText returns the log as --dump shows it. nil: there is none.
	LogText func() []byte
	// DumpSocket is the abstract name that dumps are sent to, "" means that of lvmlockctl.
	DumpSocket string
}

// Server answers LVM commands on a socket.
type Server struct {
	cfg ServerConfig
	log zerolog.Logger

	dumping chan struct{} // has room for one dump at a time: their datagrams go to one socket

	mu      sync.Mutex
	conns   map[*conn]struct{}
	perPID  map[int]int
	lastID  uint32
	quit    chan struct{} // closed when a quit was accepted
	leaving bool
	busy    sync.WaitGroup // of all connections
}

// NewServer returns a Server that serves nobody yet.
func NewServer(cfg ServerConfig) *Server {
	if cfg.Dialect == 0 {
		cfg.Dialect = lvmwire.Dialect40
	}
	if cfg.LogText == nil {
		cfg.LogText = func() []byte { return nil }
	}
	if cfg.DumpSocket == "" {
		cfg.DumpSocket = dumpSocket
	}
	return &Server{
		cfg: cfg, log: cfg.Log, conns: map[*conn]struct{}{}, perPID: map[int]int{}, quit: make(chan struct{}),
		dumping: make(chan struct{}, 1),
	}
}

// Serve answers until a client quits or ctx ends, and closes l. When it returns no connection is left; what clients held
// for themselves has been given back.
func (s *Server) Serve(ctx context.Context, l *net.UnixListener) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var err error
	accepted := make(chan struct{})
	go func() {
		defer close(accepted)
		err = s.accept(ctx, l)
	}()
	select {
	case <-ctx.Done():
	case <-s.quit:
	case <-accepted:
	}
	stop()
	l.Close()
	<-accepted
	s.hangUp()
	s.busy.Wait()
	return err
}

// hangUp ends all connections, but lets those that write an answer finish it.
func (s *Server) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.end()
	}
}

func (s *Server) accept(ctx context.Context, l *net.UnixListener) error {
	for {
		peer, err := l.AcceptUnix()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				peer.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil:
			// Those who are connected go on, and somebody will leave.
			s.log.Error().Err(err).Msg("accept")
			pause(ctx, acceptPause)
		default:
			s.welcome(ctx, peer)
		}
	}
}

// welcome starts to serve a client, or closes the connection if it or all together have too many.
func (s *Server) welcome(ctx context.Context, peer *net.UnixConn) {
	pid, fd, err := whois(peer)
	if err != nil {
		s.log.Error().Err(err).Msg("who connects?")
		peer.Close()
		return
	}
	s.mu.Lock()
	s.lastID++
	id := s.lastID
	// Processes of other PID namespaces are all 0.
	full := len(s.conns) >= maxConnections || pid != 0 && s.perPID[pid] >= maxPerProcess || s.leaving
	s.mu.Unlock()
	if full {
		s.log.Warn().Msgf("too many connections: closing that of process %d", pid)
		peer.Close()
		return
	}
	s.log.Debug().Msgf("new cl %d pi 0 fd %d", id, fd)
	c := &conn{server: s, peer: peer, id: id, pid: pid, fd: fd, done: make(chan struct{})}
	c.engine = s.cfg.Engine.Connect(pid, fd)
	c.ctx, c.cancel = context.WithCancel(ctx)
	s.mu.Lock()
	s.conns[c] = struct{}{}
	s.perPID[pid]++
	s.mu.Unlock()
	s.busy.Go(c.serve)
}

// forget is the end of a connection.
func (s *Server) forget(c *conn) {
	s.mu.Lock()
	delete(s.conns, c)
	if s.perPID[c.pid]--; s.perPID[c.pid] <= 0 {
		delete(s.perPID, c.pid)
	}
	s.mu.Unlock()
	s.log.Debug().Msgf("client close %d pi 0 fd %d", c.id, c.fd)
}

// tryQuit ends the Server unless lockspaces exist.
func (s *Server) tryQuit() lvmwire.Result {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.leaving && !s.cfg.Engine.Quit() {
		return lvmwire.Busy
	}
	s.leaving = true
	return lvmwire.OK
}

// left tells Serve, after the answer to a quit was written.
func (s *Server) left() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.quit:
	default:
		close(s.quit)
	}
}

func (s *Server) isLeaving() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leaving
}

// pause waits, or returns early when ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
