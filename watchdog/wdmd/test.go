package wdmd

import (
	"time"

	"github.com/tenurelock/tenure/leases/monotime"
	"github.com/tenurelock/tenure/watchdog"
	"github.com/tenurelock/tenure/watchdog/mux"
)

// cycle is a run of all scripts, which has its own goroutine.
type cycle struct {
	running bool
	results chan int // how many failed
}

// test looks at all clients, and at the scripts before a pet: they may take nearly until the next test, and
// then the clients are looked at again.
func (s *Server) test() {
	s.tested = s.clock.Now()
	d := s.mux.Decide(s.tested, s.clock.Asleep(), false)
	if s.cfg.Scripts == nil || d.Action != mux.Pet {
		s.act(d)
		return
	}
	if !s.cycle.running {
		s.cycle.running = true
		s.busy.Go(func() { s.cycle.results <- s.cfg.Scripts.Run(mux.Standard-time.Second, s.ended) })
	}
}

// scriptsDone ends a test that waited for the scripts.
func (s *Server) scriptsDone(failed int) {
	s.cycle.running = false
	s.act(s.mux.Decide(s.clock.Now(), s.clock.Asleep(), failed > 0))
}

// act does what was decided.
func (s *Server) act(d mux.Decision) {
	for _, f := range d.Findings {
		s.logFinding(&f)
	}
	s.held = d.Action != mux.Pet
	switch {
	case d.Action == mux.Hold:
	case d.Action == mux.Abandon:
		s.keeper.abandon()
	case !s.keeper.counting() && s.mux.Used():
		s.arm(watchdog.DefaultFire) // it could not be had when it was first asked for
	default:
		s.keeper.pet()
		s.rest()
	}
}

// logFinding logs a client that forbids the pet, in stock's words.
func (s *Server) logFinding(f *mux.Finding) {
	k, now := &s.keeper, s.clock.Now()
	if !f.Expired {
		s.log.Error().Msgf("test warning now %d ping %d close %d renewal %d expire %d client %d %s", now.Seconds(),
			k.petted.Seconds(), k.abandoned.Seconds(), f.Client.Renewed, f.Client.Expires, f.Client.PID, f.Client.Name)
		return
	}
	s.log.Error().Msgf("test failed rem %d now %d ping %d close %d renewal %d expire %d client %d %s",
		s.remaining(now)/time.Second, now.Seconds(), k.petted.Seconds(), k.abandoned.Seconds(), f.Client.Renewed,
		f.Client.Expires, f.Client.PID, f.Client.Name)
}

// remaining is the time until the device resets this host if it is not petted.
func (s *Server) remaining(now monotime.Instant) time.Duration {
	return s.keeper.fire - now.Sub(max(s.keeper.petted, s.keeper.abandoned))
}
