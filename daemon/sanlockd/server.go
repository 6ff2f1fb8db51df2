package sanlockd

import (
	"context"
	"errors"
	"net"
	"sync"

	"github.com/rs/zerolog"

	"github.com/tenurelock/tenure/leases"
	"github.com/tenurelock/tenure/leases/device"
)

// Server is one daemon. Everything that several goroutines share lies behind one mutex, because what a client
// holds and whether its lockspace is lost must be decided together.
type Server struct {
	cfg Config
	log zerolog.Logger

	root context.Context // of all work; ends when the daemon ends
	stop context.CancelFunc
	busy sync.WaitGroup // every goroutine but those of killpath programs and of opens that hang

	patience *device.Patience // opens devices
	writing  chan struct{}    // has room for those who put a status together

	mu       sync.Mutex
	clients  []*client // by slot, nil where free
	spaces   []*space  // oldest first: being added, active and being removed ones
	holdings map[leaseKey]*holding
	retired  []retiredID // numbers of leases that were held before
	lastID   struct{ space, lease, token uint32 }
	moved    uint64        // counts moves between lists, for the order of status
	changed  chan struct{} // closed and replaced whenever something changed that somebody may wait for
	ending   bool          // a shutdown was accepted: nothing new begins
	forced   bool          // it stops the users of leases too
	waiters  []*client     // SHUTDOWN_WAIT
}

// New checks the configuration.
func New(cfg Config) (*Server, error) {
	cfg.adapt()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, log: cfg.Log, holdings: map[leaseKey]*holding{}, changed: make(chan struct{})}
	s.writing = make(chan struct{}, maxStatusAtOnce)
	s.patience = device.NewPatience(cfg.Opener.Open)
	s.lastID.lease = 1
	s.clients = make([]*client, firstSlot, 2*firstSlot)
	s.root, s.stop = context.WithCancel(context.Background())
	return s, nil
}

// Serve answers on l until a shutdown is accepted or ctx ends, which forces one: the users of leases are
// stopped and the lockspaces left. It returns when nothing of the daemon runs any more.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	s.busy.Go(func() { s.accepting(l) })
	select {
	case <-ctx.Done():
		s.Shutdown(true)
	case <-s.idle():
	}
	<-s.idle()
	s.answerWaiters()
	s.stop()
	err := l.Close()
	s.hangUp()
	s.busy.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func (s *Server) accepting(l net.Listener) {
	for {
		conn, err := l.Accept()
		switch {
		case s.root.Err() != nil:
			if err == nil {
				conn.Close()
			}
			return
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			// Out of descriptors, most likely: those who are connected go on, and somebody will leave.
			s.log.Error().Err(err).Msg("accept")
			if !sleep(s.root, acceptPause) {
				return
			}
		default:
			s.connect(conn)
		}
	}
}

// idle returns a channel that is closed once a shutdown was accepted and no lockspace is left.
func (s *Server) idle() <-chan struct{} {
	done := make(chan struct{})
	s.busy.Go(func() {
		_ = s.await(s.root, func() bool { return s.ending && len(s.spaces) == 0 })
		close(done)
	})
	return done
}

// await blocks until ok, which is called with s.mu held, returns true, or ctx ends.
func (s *Server) await(ctx context.Context, ok func() bool) error {
	for {
		s.mu.Lock()
		if ok() {
			s.mu.Unlock()
			return nil
		}
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// tell wakes who waits in await. s.mu is held.
func (s *Server) tell() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func fail(op string, space leases.Name, kind leases.Kind, err error) error {
	return &leases.Error{Op: op, Space: space.String(), Kind: kind, Err: err}
}
