package lvmlock

import (
	"context"

	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// start joins a VG's lockspace. The answer comes after the quick part, or after the join if the client wants
// to wait (spec lvmlockd 3.4.1).
func (e *Engine) start(ctx context.Context, c *Client, req lvmwire.Request) verdict {
	v := verdict{typ: req.Type}
	m := e.manager(req.Type)
	switch {
	case e.unsupported(req.Type):
		v.result = lvmwire.NoSupport
		return v
	case m == nil:
		v.result = lvmwire.Perm
		if s := e.lookup(spaceName(req.VGName)); s != nil {
			v.result = present(s)
		}
		return v
	case req.VGName == "":
		v.result = lvmwire.BadRequest
		return v
	case spaceName(req.VGName) == globalSpace && !perVG(req.Type):
		e.log.Error().Str("vg", req.VGName).Msg("the lockspace would be that of the global lock: rename the VG")
		v.result = lvmwire.BadArgs
		return v
	}
	select {
	case <-e.discovered: // else we might join what will be adopted
	case <-ctx.Done():
		v.result = lvmwire.Canceled
		return v
	}
	e.selectGlobal(req.Type)
	vg := VG{Name: req.VGName, UUID: req.VGUUID, Args: req.VGArgs, HostID: uint64(max(req.HostID, 0))}
	if vg.HostID == 0 {
		vg.HostID = e.cfg.HostID
	}
	if other := e.clash(vg.Name, req.Type); other != "" {
		e.log.Error().Str("vg", vg.Name).Str("other", other).
			Msg("the lockspace cannot be told from that of another VG: rename one of them")
		v.result = lvmwire.BadArgs
		return v
	}
	s, fresh := e.admit(vg, m)
	if !fresh {
		v.result = present(s)
		return v
	}
	if t := e.globalType(); t != lvmwire.NoType && !perVG(t) {
		e.coming(1)
		if !e.spawn(func() { e.accompany(t) }) {
			e.coming(-1)
		}
	}
	p := newPending(c, req)
	s.open(p, joinOptions(req.Options))
	return p.wait(ctx, s)
}

// present is the answer to a start of what is there.
func present(s *space) lvmwire.Result {
	if s == nil {
		return lvmwire.NoMemory
	}
	switch s.now().state {
	case stopping:
		return lvmwire.Again
	case starting, adopting:
		return lvmwire.Starting
	default:
		return lvmwire.Exists
	}
}

func joinOptions(f lvmwire.Flags) JoinOptions {
	return JoinOptions{
		NoDelay: f&lvmwire.NoDelay != 0, AdoptOnly: f&lvmwire.AdoptOnly != 0,
		Adopt: f&(lvmwire.Adopt|lvmwire.AdoptOnly) != 0,
	}
}

// open prepares and joins, beside the space's goroutine.
func (s *space) open(p *pending, o JoinOptions) {
	s.engine.spawn(func() {
		ctx := s.engine.ctx
		prepare := PrepareOptions{Repair: p.req.Options&lvmwire.Repair != 0}
		locks, previous, err := s.manager.Prepare(ctx, s.vg, prepare)
		if err != nil {
			s.post(func() { s.failed(p, "prepare", err) })
			return
		}
		s.join(ctx, p, locks, previous, o)
	})
}

// join does the slow part of open.
func (s *space) join(ctx context.Context, p *pending, locks Lockspace, previous uint64, o JoinOptions) {
	enabled, unread := s.readGlobal(ctx, locks)
	s.post(func() {
		s.log.Info().Uint64("previous_generation", previous).Msg("lockspace: prepared, joining")
		s.learnGlobal(enabled)
		if p.req.Options&lvmwire.Wait == 0 {
			p.answer(verdict{typ: p.typ(s), previous: previous})
		}
	})
	generation, err := locks.Join(ctx, o)
	if err != nil {
		if e := locks.Leave(ctx, false); e != nil {
			s.log.Warn().Err(e).Msg("lockspace: what was opened for the join is not closed")
		}
		s.post(func() { s.failed(p, "join", err) })
		return
	}
	late := false
	if unread != nil { // some can tell only after the join
		if late, err = s.readGlobal(ctx, locks); err != nil {
			s.log.Warn().Err(err).Msg("cannot read whether the global lock is here: taking it as disabled")
		}
	}
	s.post(func() {
		if late {
			s.learnGlobal(true)
		}
		s.joined(locks, generation, p.internal)
		p.answer(verdict{typ: p.typ(s), previous: previous, generation: generation})
	})
}

// joined opens the lockspace for requests.
func (s *space) joined(locks Lockspace, generation uint64, adopted bool) {
	s.locks, s.generation, s.lost = locks, generation, locks.Lost()
	s.state = running
	if adopted {
		s.state = adopting
	}
	s.lane(laneKey{lvmwire.VG, "VGLK"}, "")
	s.log.Info().Uint64("gen", generation).Msg("lockspace: joined")
	s.publish()
	s.unpark()
	s.engine.touch()
}

// unpark serves what waited for the join.
func (s *space) unpark() {
	parked := s.parked
	s.parked = nil
	for _, p := range parked {
		s.serve(p)
	}
}

// failed ends a lockspace that could not be joined. A client that was already told that all is well hears of
// it when it waits for its lockspaces (start_wait).
func (s *space) failed(p *pending, what string, err error) {
	r := ResultOf(err)
	s.log.Error().Err(err).Int32("result", int32(r)).Msg("lockspace: " + what + " went wrong, it is not started")
	s.state = stopping
	for _, q := range s.parked {
		q.result(s, lvmwire.NoLockspace)
	}
	s.parked = nil
	s.end()
	if !p.answer(verdict{typ: p.typ(s), result: r, manager: r}) && p.client != nil {
		p.client.fail(r)
	}
}

// startWait answers when no lockspace is starting (spec lvmlockd 3.4.2). Only a client whose own start went
// wrong is told so.
func (e *Engine) startWait(ctx context.Context, c *Client, req lvmwire.Request) verdict {
	err := e.await(ctx, func() bool {
		if e.adopting || e.accompanying > 0 {
			return false
		}
		for _, s := range e.spaces {
			if p := s.now().state; p == starting || p == adopting {
				return false
			}
		}
		return true
	})
	if err != nil {
		return verdict{typ: req.Type, result: lvmwire.Canceled}
	}
	return verdict{typ: req.Type, result: c.takeFailure()}
}

// nameLength is how many bytes of a lockspace's name a lock manager keeps.
func nameLength(t lvmwire.LockType) int {
	if t == lvmwire.Sanlock {
		return 48
	}
	return 64
}

// cutName is what a lock manager makes of a lockspace's name.
func cutName(name string, t lvmwire.LockType) string { return name[:min(len(name), nameLength(t))] }

// clash returns the VG whose lockspace a lock manager could not tell from that of another.
func (e *Engine) clash(vg string, t lvmwire.LockType) string {
	name := spaceName(vg)
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range e.listSpaces() {
		if s.typ == t && s.name != name && cutName(s.name, t) == cutName(name, t) {
			return s.vg.Name
		}
	}
	return ""
}
