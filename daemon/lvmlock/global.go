package lvmlock

import (
	"context"

	"github.com/tenurelock/tenure/daemon/lvmwire"
)

// global is what is known of the global lock (spec lvmlockd 3.3.2, 3.8).
type global struct {
	typ     lvmwire.LockType // NoType: not chosen
	preset  bool             // by Config
	space   string           // where it is enabled, "" if not known; for managers with a place in each VG
	dup     bool             // it is enabled in two VGs
	removed bool             // the VG that had it was removed, and it was enabled nowhere since
}

// perVG says that a lock manager has a place for the global lock in each VG, and no lockspace for it alone.
func perVG(t lvmwire.LockType) bool { return t == lvmwire.Sanlock }

// selectGlobal chooses the type of the global lock if there is no choice yet.
func (e *Engine) selectGlobal(t lvmwire.LockType) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.unselect()
	if e.global.typ == lvmwire.NoType && e.manager(t) != nil {
		e.global.typ = t
	}
}

// unselect forgets the type when there is no lockspace. e.mu is held.
func (e *Engine) unselect() {
	if len(e.spaces) == 0 && !e.global.preset {
		e.global.typ = lvmwire.NoType
	}
}

// globalType returns the chosen type.
func (e *Engine) globalType() lvmwire.LockType {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.global.typ
}

// probeGlobal returns the chosen type, or chooses that of the one lock manager that runs.
func (e *Engine) probeGlobal(ctx context.Context) lvmwire.LockType {
	if t := e.globalType(); t != lvmwire.NoType {
		return t
	}
	if found := e.whoRuns(ctx); len(found) == 1 {
		e.selectGlobal(found[0])
	}
	return e.globalType()
}

// findGlobal returns the lockspace that has the global lock.
func (e *Engine) findGlobal(ctx context.Context, p *pending) (*space, lvmwire.Result) {
	e.mu.Lock()
	adopting := e.adopting
	e.mu.Unlock()
	if adopting {
		return nil, lvmwire.Starting
	}
	t := e.probeGlobal(ctx)
	switch {
	case t == lvmwire.NoType:
		return nil, lvmwire.NoLockspace
	case perVG(t):
		s := e.enabledSpace()
		if s == nil {
			e.search(ctx)
			s = e.enabledSpace()
		}
		return s, lvmwire.NoLockspace
	case p.req.Mode == lvmwire.UN:
		return e.lookup(globalKey), lvmwire.NoLockspace
	}
	s, fresh := e.ensureGlobal(ctx, t)
	p.waitStarting = fresh
	return s, lvmwire.NoLockspace
}

// enabledSpace returns the lockspace that is known to have the global lock.
func (e *Engine) enabledSpace() *space {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.spaces[e.global.space]
}

// ensureGlobal starts the lockspace of the global lock if it is missing. One that is being left is waited
// for.
func (e *Engine) ensureGlobal(ctx context.Context, t lvmwire.LockType) (s *space, fresh bool) {
	m := e.manager(t)
	for {
		s, fresh = e.admit(VG{Name: globalSpace}, m)
		if fresh {
			p := newPending(nil, lvmwire.Request{Op: lvmwire.OpStart, Type: t})
			s.open(p, JoinOptions{})
			return s, true
		}
		if s == nil || s.now().state != stopping {
			return s, false
		}
		select {
		case <-s.gone:
		case <-ctx.Done():
			return nil, false
		}
	}
}

// accompany starts the lockspace of the global lock for a VG that was admitted. The VG may have gone again, without
// finding a lockspace to tell of it.
func (e *Engine) accompany(t lvmwire.LockType) {
	s, _ := e.ensureGlobal(e.ctx, t)
	e.coming(-1)
	if s != nil && e.deserted(s.typ) {
		s.post(func() { s.lonely = true })
	}
}

// coming counts the lockspaces of the global lock that will be started soon: who waits for lockspaces to start waits for
// them too.
func (e *Engine) coming(n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.accompanying += n
	e.announce()
}

// readGlobal reads whether a VG's global lock is enabled; what cannot be read is not.
func (s *space) readGlobal(ctx context.Context, locks Lockspace) (enabled bool, err error) {
	g, ok := locks.(GlobalLocker)
	if !ok {
		return false, nil
	}
	enabled, err = g.GlobalEnabled(ctx)
	return enabled && err == nil, err
}

// learnGlobal notes what readGlobal found.
func (s *space) learnGlobal(enabled bool) {
	s.setEnabled(enabled)
	if !enabled {
		return
	}
	e := s.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.global.space != s.key && e.spaces[e.global.space] != nil {
		e.global.dup = true
		s.log.Error().Str("other", e.global.space).
			Msg("the global lock is enabled in two VGs: disable one with lvmlockctl --gl-disable")
		return
	}
	e.global.space = s.key
}

// search reads the places of all running lockspaces for the one that is enabled.
func (e *Engine) search(ctx context.Context) {
	found := 0
	for _, s := range e.all() {
		st := s.now()
		if st.state != running || !perVG(s.typ) {
			continue
		}
		enabled, err := s.readGlobal(ctx, st.locks)
		if err != nil {
			s.log.Warn().Err(err).Msg("cannot read whether the global lock is here: taking it as disabled")
		}
		if enabled {
			found++
			s.learnGlobal(true)
		} else {
			s.setEnabled(false)
		}
	}
	if found < 2 {
		e.mu.Lock()
		e.global.dup = false
		e.mu.Unlock()
	}
}

// judgeDuplicates reads the places again while two were seen enabled.
func (e *Engine) judgeDuplicates(ctx context.Context, s *space) {
	if e.duplicate(s) {
		e.search(ctx)
	}
}

// duplicate says that a lockspace is one of several with the global lock enabled.
func (e *Engine) duplicate(s *space) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.global.dup && s.now().enabled
}

// forget notes that a lockspace does not have the global lock any more. e.mu is held.
func (e *Engine) forget(key string) {
	if e.global.space == key {
		e.global.space = ""
	}
	n := 0
	for _, s := range e.spaces {
		if s.key != key && s.now().enabled {
			n++
		}
	}
	if n < 2 {
		e.global.dup = false
	}
}

// enable notes that the global lock was enabled in a VG.
func (e *Engine) enable(s *space) {
	s.setEnabled(true)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.global.space = s.key
	e.global.removed = false
}

// disable notes that it was disabled.
func (e *Engine) disable(s *space) {
	s.setEnabled(false)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.forget(s.key)
}

// removedGlobal notes that a VG was removed and says whether other VGs lost their global lock with it.
func (e *Engine) removedGlobal(s *space) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !s.now().enabled || e.vgs(s.typ) < 2 {
		return false
	}
	e.global.removed = true
	return true
}

// switchGlobal enables or disables the global lock in a VG (spec 3.8.3). It is enabled only if no running
// lockspace has it enabled, which is read anew.
func (s *space) switchGlobal(p *pending) {
	if _, ok := s.locks.(GlobalLocker); !ok {
		p.result(s, lvmwire.BadRequest)
		return
	}
	if p.req.Op == lvmwire.OpDisable {
		s.ask(p)
		return
	}
	s.call(func() func() {
		if s.engine.enabledSpace() == nil && !s.engine.cfg.Test {
			s.engine.search(s.engine.ctx)
		}
		return func() {
			switch {
			case s.state != running:
				p.result(s, lvmwire.NoLockspace)
			case s.engine.enabledSpace() != nil:
				p.result(s, lvmwire.BadRequest)
			default:
				s.ask(p)
			}
		}
	})
}
