package lvmlock

import (
	"errors"
	"time"

	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// laneKey names a resource within its space.
type laneKey struct {
	kind lvmwire.Kind
	name string
}

// lane is a resource, and the one call that may be under way for it.
type lane struct {
	key     laneKey
	locks   *Locks
	waiters map[*Ask]*pending
	frees   []*pending // that wait until nobody uses the LV
	calling bool
	locked  bool      // by the call that ended last, and its request is not answered yet
	queued  bool      // in space.ready
	resume  time.Time // zero: nothing waits to be tried again
}

// keyOf names the resource that a request is about.
func keyOf(req lvmwire.Request) laneKey {
	switch req.Kind {
	case lvmwire.GL:
		return laneKey{lvmwire.GL, "GLLK"}
	case lvmwire.VG:
		return laneKey{lvmwire.VG, "VGLK"}
	default:
		return laneKey{req.Kind, req.LVUUID}
	}
}

// lane returns the lane of a resource, nil if there are too many.
func (s *space) lane(key laneKey, args string) *lane {
	if l := s.lanes[key]; l != nil {
		return l
	}
	if len(s.lanes) >= maxLanes {
		return nil
	}
	l := &lane{
		key: key, waiters: map[*Ask]*pending{},
		locks: NewLocks(Resource{Kind: key.kind, Name: key.name, Args: args}),
	}
	s.lanes[key] = l
	return l
}

// ask queues a request on its resource.
func (s *space) ask(p *pending) {
	key := keyOf(p.req)
	if key.name == "" {
		p.result(s, lvmwire.BadRequest)
		return
	}
	if s.lanes[key] == nil && p.req.Op == lvmwire.OpLock && p.req.Mode == lvmwire.UN {
		p.result(s, lvmwire.NotFound)
		return
	}
	l := s.lane(key, p.req.LVArgs)
	if l == nil {
		s.log.Warn().Int("resources", len(s.lanes)).Msg("too many resources: a request was refused")
		p.result(s, lvmwire.NoMemory)
		return
	}
	a := &Ask{
		Client: p.client.id, Op: p.req.Op, Mode: p.req.Mode, Flags: p.req.Options, Version: p.req.Version,
		MaxRetries: p.req.MaxRetries, Args: p.req.LVArgs,
	}
	l.waiters[a] = p
	l.locks.Ask(a)
	s.pump(l)
}

// pump does what can be done for a resource now.
func (s *space) pump(l *lane) {
	if s.leaving != nil { // no more calls but those of advance
		s.deliver(l)
		return
	}
	if l.calling || l.queued {
		return
	}
	if s.calls >= maxCalls {
		l.queued = true
		s.ready = append(s.ready, l)
		return
	}
	for again := true; again && !l.calling; { // answers that nobody heard make work
		if call, due := l.locks.Step(); due {
			l.calling = true
			s.call(func() func() {
				out := s.carryOut(call)
				return func() { s.finished(l, call, out) }
			})
		}
		again = s.deliver(l)
	}
	if l.resume.IsZero() && l.locks.Pause() {
		l.resume = time.Now().Add(RetryPause)
		s.setAlarm()
	}
	s.retryFrees(l)
	s.retire(l)
}

// carryOut makes a call on the lock manager; it runs beside the space's goroutine.
func (s *space) carryOut(c Call) Outcome {
	ctx := s.engine.ctx
	var out Outcome
	switch c.Kind {
	case CallLock:
		out.Value, out.Err = s.locks.Lock(ctx, c.Resource, c.To, c.Options)
	case CallConvert:
		out.Err = s.locks.Convert(ctx, c.Resource, c.From, c.To, c.Value)
	case CallUnlock:
		out.Err = s.locks.Unlock(ctx, c.Resource, c.From, c.Value)
	case CallEnable, CallDisable:
		g, ok := s.locks.(GlobalLocker)
		if !ok {
			out.Err = &Error{Op: "enable the global lock", What: s.name, Result: lvmwire.BadRequest}
			break
		}
		out.Err = g.SetGlobal(ctx, c.Kind == CallEnable)
	}
	return out
}

// finished goes on after a call.
func (s *space) finished(l *lane, c Call, out Outcome) {
	l.calling = false
	s.note(l, c, out)
	l.locks.Done(out)
	l.locked = c.Kind == CallLock && out.Err == nil
	if c.Resource.Kind == lvmwire.LV && out.Err == nil {
		s.engine.touch()
	}
	s.pump(l)
}

// deliver answers what ended, and says whether there is more to do because of it.
func (s *space) deliver(l *lane) (again bool) {
	for _, a := range l.locks.Answers() {
		p := l.waiters[a.Ask]
		delete(l.waiters, a.Ask)
		if p != nil && !s.tell(l, p, a) {
			again = true
		}
	}
	return again
}

// tell answers one request, and says false if what was granted must be given back.
func (s *space) tell(l *lane, p *pending, a Answer) (heard bool) {
	v := verdict{
		typ: p.typ(s), result: a.Result, manager: a.ManagerValue, flags: a.Flags, owner: a.Owner,
		generation: s.generation, mode: lvmwire.Invalid,
	}
	s.report(l, p, a)
	switch {
	case l.key.kind == lvmwire.GL && a.Result == lvmwire.Unattached:
		s.engine.disable(s)
	case a.Result == lvmwire.OK && p.req.Op == lvmwire.OpEnable:
		s.engine.enable(s)
	case a.Result == lvmwire.OK && p.req.Op == lvmwire.OpDisable:
		s.engine.disable(s)
	}
	if a.Result == lvmwire.OK && p.req.Op == lvmwire.OpLock && p.req.Mode != lvmwire.UN && l.locked {
		l.locked = false
		if s.engine.duplicate(s) {
			v.flags |= lvmwire.DupGL
		}
	}
	if s.state == stopping && a.Result == lvmwire.OK && p.req.Op == lvmwire.OpLock && p.req.Mode != lvmwire.UN {
		v.result, v.flags = lvmwire.NoLockspace, 0 // it came too late: all locks are about to be given back
	}
	took := a.Flags&lvmwire.LVLock != 0
	if took {
		p.client.granted(&grant{s, l, a})
	}
	if p.answer(v) || !took {
		return true
	}
	s.log.Info().Str("resource", l.key.name).Int("pid", p.client.pid).Msg("the client is gone: unlocking")
	l.locks.Undelivered(a)
	return false
}

// closeClient gives back what a client holds for itself.
func (s *space) closeClient(c ClientID) {
	for _, p := range s.parked {
		if p.client.id == c {
			p.result(s, lvmwire.Canceled)
		}
	}
	for _, l := range s.lanes {
		l.locks.Close(c)
		s.pump(l)
	}
}

// setAlarm wakes the goroutine when the first resource is to be tried again.
func (s *space) setAlarm() {
	var first time.Time
	for _, l := range s.lanes {
		if !l.resume.IsZero() && (first.IsZero() || l.resume.Before(first)) {
			first = l.resume
		}
	}
	s.alarm.Stop()
	if !first.IsZero() {
		s.alarm.Reset(time.Until(first))
	}
}

// resume tries again the resources whose pause is over.
func (s *space) resume(now time.Time) {
	for _, l := range s.lanes {
		if !l.resume.IsZero() && !l.resume.After(now) {
			l.resume = time.Time{}
			l.locks.Resume()
			s.pump(l)
		}
	}
	s.setAlarm()
}

// retire forgets an LV that nobody holds or wants. GL and VG keep their versions.
func (s *space) retire(l *lane) {
	if l.key.kind != lvmwire.LV || l.calling || l.queued || len(l.waiters) > 0 || !l.locks.Idle() {
		return
	}
	delete(s.lanes, l.key)
}

// errorOf returns the lock manager's own error, if it is one.
func errorOf(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return nil
}
