package wdmd

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/tenurelock/tenure/leases/monotime"
	"github.com/tenurelock/tenure/watchdog"
	"github.com/tenurelock/tenure/watchdog/mux"
	"github.com/tenurelock/tenure/watchdog/wdmdwire"
)

// Limits. What goes beyond is refused.
const (
	maxClients  = 1024        // connections and dead clients together
	answerWait  = time.Second // for a client to take an answer; one that does not gets no further ones
	acceptPause = time.Second // after accepting failed

	// endWait is for how long a request to end holds: the messages with which the last clients let go may
	// have been sent and not been read yet.
	endWait = time.Second
)

// Config says what is served. The zero value of what is optional means the real thing.
type Config struct {
	Source  watchdog.Source
	Scripts Runner // nil: no scripts are run
	GID     int    // as the dump shows it
	High    bool   // as the dump shows it

	Clock *monotime.Clock
	Log   zerolog.Logger
	Peer  func(net.Conn) (pid, fd int) // who is at the other end, and our descriptor
}

// Runner runs programs that forbid a pet by failing. Scripts is one.
type Runner interface {
	// Run runs all and returns how many failed, after limit or when ended is closed at the latest.
	Run(limit time.Duration, ended <-chan struct{}) int
	Rescan()
	Dump(to []byte, now uint64) []byte
	KillAfter() time.Duration
}

var _ Runner = (*Scripts)(nil)

// Server is the daemon behind its socket.
type Server struct {
	cfg    Config
	log    zerolog.Logger
	clock  monotime.Clock
	asks   chan ask
	stop   chan struct{}
	rescan chan struct{}
	ended  chan struct{}
	busy   sync.WaitGroup

	// What follows belongs to the goroutine of Serve.
	mux    *mux.Mux
	keeper keeper
	tested monotime.Instant // when the last test began
	held   bool             // the last test ended without a pet
	cycle  cycle

	mu    sync.Mutex
	conns map[net.Conn]bool
}

// ask is something that a connection wants of the owner of everything.
type ask struct {
	conn    net.Conn // a new connection: its number is answered
	gone    bool
	id      mux.ID
	message wdmdwire.Message
	answer  chan answer
}

type answer struct {
	id    mux.ID
	ok    bool
	bytes []byte // for the client; nil: nothing
}

// New looks for a usable device: without one there is nothing to serve.
func New(cfg Config) (*Server, error) {
	if cfg.Clock == nil {
		system := monotime.System()
		cfg.Clock = &system
	}
	if cfg.Peer == nil {
		cfg.Peer = peerOf
	}
	s := &Server{
		cfg: cfg, log: cfg.Log, clock: *cfg.Clock, mux: mux.New(), asks: make(chan ask),
		stop: make(chan struct{}, 1), rescan: make(chan struct{}, 1), ended: make(chan struct{}),
		conns:  map[net.Conn]bool{},
		keeper: keeper{source: cfg.Source, clock: *cfg.Clock, log: cfg.Log},
	}
	if err := s.keeper.probe(); err != nil {
		return nil, err
	}
	if cfg.Scripts != nil && s.keeper.arm(watchdog.DefaultFire) == 0 {
		return nil, ErrNoDevice
	}
	s.tested = s.clock.Now()
	return s, nil
}

// Stop asks the server to end. That is refused, and not remembered, if any client still forbids it after a second.
func (s *Server) Stop() { poke(s.stop) }

// Rescan makes the server look for scripts again.
func (s *Server) Rescan() { poke(s.rescan) }

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // the one before has not been seen yet
	}
}

// Serve serves until it is stopped, and returns with the device stopped. It closes l. When ctx ends it returns
// too, without touching the device, which then resets this host.
func (s *Server) Serve(ctx context.Context, l net.Listener) {
	s.cycle.results = make(chan int, 1)
	s.busy.Go(func() { s.accept(l) })
	s.work(ctx)
	close(s.ended)
	l.Close()
	s.mu.Lock()
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	s.busy.Wait()
}

// work is the goroutine that owns clients and device.
func (s *Server) work(ctx context.Context) {
	timer := time.NewTimer(s.untilTest())
	defer timer.Stop()
	var refusal <-chan time.Time // not nil: the server was asked to end, and refuses then
	for {
		// A client that sends and sends must not keep a test that is due waiting.
		if s.untilTest() <= 0 {
			s.test()
		}
		if refusal != nil && s.end() {
			return
		}
		timer.Reset(s.untilTest())
		select {
		case a := <-s.asks:
			s.handle(a)
		case <-timer.C:
		case failed := <-s.cycle.results:
			s.scriptsDone(failed)
		case <-s.rescan:
			if s.cfg.Scripts != nil {
				s.cfg.Scripts.Rescan()
			}
		case <-s.stop:
			refusal = time.After(endWait)
		case <-refusal:
			refusal = nil
			s.refuseEnd()
		case <-ctx.Done():
			return
		}
	}
}

// untilTest is the time to the next test.
func (s *Server) untilTest() time.Duration {
	every := s.mux.Interval()
	if s.keeper.failing {
		every = mux.Recovery
	}
	return s.tested.Add(every).Sub(s.clock.Now())
}

// end stops the device, unless somebody needs it.
func (s *Server) end() bool {
	if len(s.mux.Ending()) > 0 || s.keeper.resetting() {
		return false
	}
	if fire := s.keeper.fire; !s.keeper.disarm() {
		s.log.Error().Msgf("%s resets this host within %v: it could not be stopped", s.keeper.path, fire)
	}
	return true
}

// refuseEnd says who needs the device.
func (s *Server) refuseEnd() {
	for _, c := range s.mux.Ending() {
		s.log.Error().Msgf("ignore shutdown, client %d pid %d ref %d expire %d %s", c.ID, c.PID, bit(c.Ref),
			c.Expires, c.Name)
	}
	if s.keeper.resetting() {
		s.log.Error().Msgf("ignore shutdown, %s is running out", s.keeper.path)
	}
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// accept takes connections until the listener is closed.
func (s *Server) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			select {
			case <-s.ended:
				return
			case <-time.After(acceptPause):
			}
			if errors.Is(err, net.ErrClosed) {
				return
			}
			s.log.Error().Err(err).Msg("accept")
			continue
		}
		if s.keep(c) {
			s.busy.Go(func() { s.serve(c) })
		}
	}
}

// keep notes a connection that is to be closed at the end.
func (s *Server) keep(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.ended:
		c.Close()
		return false
	default:
		s.conns[c] = true
		return true
	}
}
