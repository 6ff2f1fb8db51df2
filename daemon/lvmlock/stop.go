package lvmlock

import (
	"context"
	"slices"
	"time"

	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// teardown is a lockspace on its way out.
type teardown struct {
	tell   *pending // who wants to know, nil: nobody
	free   bool     // the VG is being removed
	always bool     // the answer is OK whatever the lock manager says
	begun  bool
}

// whenQuiet calls f as soon as no call for an LV is under way: until then nobody knows whether the LV is
// locked.
func (s *space) whenQuiet(f func()) {
	if !s.locking() {
		f()
		return
	}
	s.quiet = append(s.quiet, f)
}

// stop leaves the lockspace unless an LV is locked (spec lvmlockd 3.4.3).
func (s *space) stop(p *pending) {
	if p.req.Options&lvmwire.Force != 0 {
		s.beginStop(p, false)
		return
	}
	s.whenQuiet(func() {
		switch {
		case s.state != running:
			p.result(s, lvmwire.NoLockspace)
		case s.holdsLV():
			p.result(s, lvmwire.Busy)
		default:
			s.beginStop(p, false)
		}
	})
}

// freeVG leaves the lockspace for ever, if no other host is in it (spec 3.4.5). Unlike stock it is refused
// while an LV is locked here.
func (s *space) freeVG(p *pending) { s.leaveAlone(p, true) }

// renameBefore stops the lockspace, if no other host is in it and no LV is locked (spec 3.4.6).
func (s *space) renameBefore(p *pending) { s.leaveAlone(p, false) }

func (s *space) leaveAlone(p *pending, free bool) {
	s.askHosts(p, func() {
		s.whenQuiet(func() {
			switch {
			case s.state != running:
				p.result(s, lvmwire.NoLockspace)
			case s.holdsLV():
				s.log.Warn().Str("request", p.req.Name).Msg("refused: an LV is locked on this host")
				p.result(s, lvmwire.Busy)
			default:
				s.beginStop(p, free)
			}
		})
	})
}

// askHosts calls then if no other host can be in the lockspace, and answers if one can.
func (s *space) askHosts(p *pending, then func()) {
	s.call(func() func() {
		others, unsure, err := s.locks.Hosts(s.engine.ctx)
		return func() {
			v := verdict{typ: p.typ(s), generation: s.generation}
			switch {
			case s.state != running:
				v.result = lvmwire.NoLockspace
			case err != nil:
				s.log.Error().Err(err).Msg("other hosts are not known")
				v.result = ResultOf(err)
				v.manager = v.result
			case others > 0 || unsure:
				s.log.Info().Int("hosts", others).Bool("unsure", unsure).Msg("other hosts may use the lockspace")
				v.result, v.manager = lvmwire.Busy, lvmwire.Busy
				if unsure {
					v.flags |= lvmwire.HostsUnknown
				}
			default:
				then()
				return
			}
			p.answer(v)
		}
	})
}

// beginStop withdraws what waits. What is under way ends first, then everything is given back (advance).
func (s *space) beginStop(p *pending, free bool) {
	s.state = stopping
	s.leaving = &teardown{tell: p, free: free}
	s.log.Info().Bool("free", free).Msg("lockspace: leaving")
	for _, l := range s.lanes {
		l.locks.Cancel(lvmwire.Canceled)
		s.deliver(l)
	}
	for _, o := range s.slots {
		o.p.result(s, lvmwire.NoLockspace)
	}
	s.slots = nil
}

// advance takes the next step of leaving.
func (s *space) advance() {
	t := s.leaving
	if t == nil || t.begun || s.calls > 0 {
		return
	}
	t.begun = true
	var calls []Call
	var cleared []*lane
	if !t.free { // Leave marks the leases as removed while they are held
		for _, l := range s.lanes {
			if c, due := l.locks.Clear(); due {
				calls, cleared = append(calls, c), append(cleared, l)
			}
		}
	}
	s.call(func() func() {
		outs := make([]Outcome, len(calls))
		for i, c := range calls {
			if outs[i] = s.carryOut(c); outs[i].Err != nil {
				s.log.Error().Err(outs[i].Err).Str("resource", c.Resource.Name).Msg("not given back")
			}
		}
		err := s.locks.Leave(s.engine.ctx, t.free)
		return func() {
			for i, l := range cleared {
				l.locks.Done(outs[i])
			}
			s.left(t, err)
		}
	})
}

// left ends the lockspace, or opens it again if the lock manager still needs it.
func (s *space) left(t *teardown, err error) {
	s.leaving = nil
	if e := errorOf(err); e != nil && e.Result == lvmwire.Busy {
		s.log.Warn().Err(err).Msg("lockspace: still in use, it goes on")
		s.state = running
		for _, l := range s.lanes { // what could not be given back is tried again
			s.pump(l)
		}
		s.needed = time.Now()
		if s.lonely {
			s.lonely = false
			s.engine.spawn(s.tryLonely)
		}
		t.tell.result(s, lvmwire.Busy)
		return
	}
	s.lanes = map[laneKey]*lane{}
	var v verdict
	if err != nil {
		s.log.Error().Err(err).Msg("lockspace: left, but the lock manager complains")
		if !t.always {
			v.result = ResultOf(err)
			v.manager = v.result
		}
	} else {
		s.log.Info().Msg("lockspace: left")
	}
	if t.free && s.engine.removedGlobal(s) {
		v.flags |= lvmwire.WarnGLRemoved
	}
	s.end()
	if t.tell != nil {
		v.typ, v.generation = t.tell.typ(s), s.generation
		t.tell.answer(v)
	}
}

// tryLonely has lvm_global, which was still in use, try again in a while to go after the last VG.
func (s *space) tryLonely() {
	select {
	case <-time.After(RetryPause):
		s.post(func() { s.lonely = true })
	case <-s.gone:
	case <-s.engine.ctx.Done():
	}
}

// stopAll stops the lockspaces in which nothing is locked, with Force all, and answers how many are left;
// with Wait when none is (spec 3.4.4).
func (e *Engine) stopAll(ctx context.Context, req lvmwire.Request) verdict {
	force := req.Options&lvmwire.Force != 0
	if req.Options&lvmwire.Wait != 0 {
		return verdict{typ: req.Type, result: lvmwire.Result(e.drain(ctx, force))}
	}
	left := e.stopIdle(force)
	return verdict{typ: req.Type, result: lvmwire.Result(left)}
}

// Shutdown stops the lockspaces in which nothing is locked, waits for them and returns how many remain. While one that
// was killed, or lost, is locked it stops none: the lock manager asks us to end each second then, and for the other VGs
// there is no reason to.
func (e *Engine) Shutdown(ctx context.Context) int {
	if all := e.all(); slices.ContainsFunc(all, func(s *space) bool { st := s.now(); return st.killed && !st.idle }) {
		return len(all)
	}
	e.stopIdle(false)
	left := 0
	_ = e.await(ctx, func() bool {
		left = len(e.spaces)
		for _, s := range e.spaces {
			if s.now().state == stopping {
				return false
			}
		}
		return true
	})
	if left == 1 && e.lookup(globalKey) != nil && ctx.Err() == nil {
		return e.drainGlobal(ctx)
	}
	return left
}

// drainGlobal stops lvm_global after all VGs, if nobody holds the global lock.
func (e *Engine) drainGlobal(ctx context.Context) int {
	e.stopIdle(false)
	left := 0
	_ = e.await(ctx, func() bool {
		left = len(e.spaces)
		s := e.spaces[globalKey]
		return s == nil || s.now().state != stopping
	})
	return left
}

// drain stops lockspaces as they become idle, until none is left.
func (e *Engine) drain(ctx context.Context, force bool) int {
	for {
		e.mu.Lock()
		news, left := e.news, len(e.spaces)
		e.mu.Unlock()
		if left == 0 {
			return 0
		}
		e.stopIdle(force)
		select {
		case <-news:
		case <-time.After(RetryPause): // for one that the lock manager still needed
		case <-ctx.Done():
			return left
		case <-e.ctx.Done():
			return left
		}
	}
}

// stopIdle begins to stop every lockspace in which nothing is locked and returns how many lockspaces there
// are. The one of the global lock goes last, but with force at once, whoever holds it.
func (e *Engine) stopIdle(force bool) int {
	all := e.all()
	for _, s := range all {
		if s.global && !force && !e.deserted(s.typ) {
			continue
		}
		s.do(func() {
			if s.state == running && (force || s.idle()) && time.Since(s.needed) >= RetryPause {
				s.beginStop(nil, false)
			}
		})
	}
	return len(all)
}
